// The drawing: pixels 0xAABBGGRR, what can be done to them, and undo without end.

/** Return 0xAABBGGRR of [r, g, b]. */
export const packed = ([r, g, b]) => (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;

/** Return [r, g, b] of 0xAABBGGRR. */
export const unpacked = colour => [colour & 255, (colour >>> 8) & 255, (colour >>> 16) & 255];

export const css = colour => `rgb(${unpacked(colour).join(" ")})`;

/** Return a rectangle {x, y, w, h} that has both pixels in it. */
export function spanned(a, b) {
  const x = Math.min(a.x, b.x), y = Math.min(a.y, b.y);
  return { x, y, w: Math.abs(a.x - b.x) + 1, h: Math.abs(a.y - b.y) + 1 };
}

function packRuns(pixels) { // runs of equal pixels: label maps shrink to almost nothing
  const runs = [];
  for (let i = 0, start = 0; i <= pixels.length; i++) {
    if (i === pixels.length || pixels[i] !== pixels[start]) {
      runs.push(i - start, pixels[start]);
      start = i;
    }
  }
  return Uint32Array.from(runs);
}

function unpackRuns(runs, length) {
  const pixels = new Uint32Array(length);
  for (let i = 0, at = 0; i < runs.length; i += 2) pixels.fill(runs[i + 1], at, at += runs[i]);
  return pixels;
}

export class Drawing extends EventTarget {
  /** paper: the colour of an empty drawing. Tells of each change by "change". */
  constructor(width, height, paper) {
    super();
    this.width = width;
    this.height = height;
    this.paper = paper;
    this.pixels = new Uint32Array(width * height).fill(paper);
    this.before = this.pixels.slice();
    this.done = [];
    this.undone = [];
    /** Where the last step changed something. */
    this.last = null;
  }

  // A step: begin() is implied. Draw, retry() to draw it otherwise, commit() to keep it.

  retry() { this.pixels.set(this.before); }

  cancel() {
    this.retry();
    this.changed();
  }

  changed() { this.dispatchEvent(new Event("change")); }

  commit() {
    const { width, height, pixels, before } = this;
    let left = width, right = -1, top = height, bottom = -1;
    for (let y = 0, i = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        if (pixels[i] === before[i]) continue;
        if (x < left) left = x;
        if (x > right) right = x;
        if (y < top) top = y;
        bottom = y;
      }
    }
    if (right >= 0) {
      const area = { x: left, y: top, w: right - left + 1, h: bottom - top + 1 };
      this.done.push({ area, before: packRuns(this.copy(area, before)), after: packRuns(this.copy(area)) });
      this.undone.length = 0;
      this.last = area;
      before.set(pixels);
    }
    this.changed();
  }

  undo() { this.#turn(this.done, this.undone, "before"); }

  redo() { this.#turn(this.undone, this.done, "after"); }

  #turn(from, to, state) {
    const step = from.pop();
    if (!step) return;
    to.push(step);
    this.retry();
    this.paste(unpackRuns(step[state], step.area.w * step.area.h), step.area);
    this.before.set(this.pixels);
    this.last = step.area;
    this.changed();
  }

  // What can be drawn; whatever lies outside is cut off.

  has({ x, y }) { return x >= 0 && y >= 0 && x < this.width && y < this.height; }

  at(point) { return this.has(point) ? this.pixels[point.y * this.width + point.x] : this.paper; }

  fillAll(colour) { this.pixels.fill(colour); }

  fillRect({ x, y, w, h }, colour) {
    const left = Math.max(0, x), right = Math.min(this.width, x + w);
    if (right <= left) return;
    for (let row = Math.max(0, y); row < Math.min(this.height, y + h); row++) {
      this.pixels.fill(colour, row * this.width + left, row * this.width + right);
    }
  }

  copy({ x, y, w, h }, from = this.pixels) {
    const block = new Uint32Array(w * h).fill(this.paper);
    for (let row = Math.max(0, -y); row < h && y + row < this.height; row++) {
      const left = Math.max(0, x), right = Math.min(this.width, x + w), start = (y + row) * this.width;
      if (right > left) block.set(from.subarray(start + left, start + right), row * w + left - x);
    }
    return block;
  }

  paste(block, { x, y, w, h }) {
    const left = Math.max(0, x), right = Math.min(this.width, x + w);
    if (right <= left) return;
    for (let row = Math.max(0, -y); row < h && y + row < this.height; row++) {
      this.pixels.set(block.subarray(row * w + left - x, row * w + right - x), (y + row) * this.width + left);
    }
  }

  /** Draw a hard square of `width` pixels along a line. */
  brush(from, to, width, colour) {
    const steps = Math.max(Math.abs(to.x - from.x), Math.abs(to.y - from.y), 1), back = Math.floor(width / 2);
    for (let i = 0; i <= steps; i++) {
      const x = Math.round(from.x + (to.x - from.x) * i / steps), y = Math.round(from.y + (to.y - from.y) * i / steps);
      this.fillRect({ x: x - back, y: y - back, w: width, h: width }, colour);
    }
  }

  /** Draw a soft round line, in fractions of pixels; its width goes from one end's to the other's. */
  pen(from, to, colour) {
    const reach = Math.max(from.width, to.width) / 2 + 1, ink = unpacked(colour), { width, height, pixels } = this;
    const dx = to.x - from.x, dy = to.y - from.y, length = dx * dx + dy * dy;
    const top = Math.max(0, Math.floor(Math.min(from.y, to.y) - reach));
    const bottom = Math.min(height - 1, Math.ceil(Math.max(from.y, to.y) + reach));
    const left = Math.max(0, Math.floor(Math.min(from.x, to.x) - reach));
    const right = Math.min(width - 1, Math.ceil(Math.max(from.x, to.x) + reach));
    for (let y = top; y <= bottom; y++) {
      for (let x = left; x <= right; x++) {
        const px = x + .5 - from.x, py = y + .5 - from.y;
        const along = length ? Math.min(1, Math.max(0, (px * dx + py * dy) / length)) : 0;
        const radius = (from.width + (to.width - from.width) * along) / 2;
        const cover = radius + .5 - Math.hypot(px - along * dx, py - along * dy);
        if (cover <= 0) continue;
        const i = y * width + x, share = Math.min(1, cover), under = unpacked(this.before[i]);
        // from the paper below the stroke, so that its pieces do not darken where they meet
        const mixed = packed(under.map((level, c) => Math.round(level + (ink[c] - level) * share)));
        if (nearer(mixed, pixels[i], colour)) pixels[i] = mixed;
      }
    }
  }

  /** Fill what hangs together with a pixel and has its colour. */
  flood(point, colour) {
    const { width, pixels } = this, under = this.at(point), open = [point.y * width + point.x];
    if (under === colour) return;
    while (open.length) {
      const i = open.pop();
      if (pixels[i] !== under) continue;
      pixels[i] = colour;
      const x = i % width;
      if (x > 0) open.push(i - 1);
      if (x < width - 1) open.push(i + 1);
      if (i >= width) open.push(i - width);
      if (i < pixels.length - width) open.push(i + width);
    }
  }

  /** Return the colour that most of the pixels around a rectangle have: what is left when it is moved away. */
  around({ x, y, w, h }) {
    const counts = new Map();
    const count = (px, py) => {
      if (!this.has({ x: px, y: py })) return;
      const colour = this.before[py * this.width + px];
      counts.set(colour, (counts.get(colour) ?? 0) + 1);
    };
    for (let i = -1; i <= w; i++) count(x + i, y - 1), count(x + i, y + h);
    for (let i = 0; i < h; i++) count(x - 1, y + i), count(x + w, y + i);
    return [...counts].reduce((most, next) => next[1] > most[1] ? next : most, [this.paper, 0])[0];
  }
}

function nearer(a, b, goal) { return distance(a, goal) < distance(b, goal); }

/** Return the squared distance of two colours. */
export function distance(a, b) {
  const [p, q] = [unpacked(a), unpacked(b)];
  return (p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2 + (p[2] - q[2]) ** 2;
}

/** Give each pixel the nearest colour of a palette; return how many were not of it. */
export function snap(pixels, colours) {
  const known = new Map(colours.map(colour => [colour, colour]));
  let snapped = 0;
  for (let i = 0; i < pixels.length; i++) {
    const colour = pixels[i];
    if (!known.has(colour)) {
      known.set(colour, colours.reduce((best, next) => nearer(next, best, colour) ? next : best));
    }
    if (known.get(colour) !== colour) {
      pixels[i] = known.get(colour);
      snapped++;
    }
  }
  return snapped;
}

/** Return a block of pixels turned from left to right. */
export function flipped(block, width) {
  const turned = block.slice();
  for (let i = 0; i < turned.length; i += width) turned.subarray(i, i + width).reverse();
  return turned;
}
