// The board: shows the drawing, enlarged as the user likes, and hands pointers and keys to the tool in use.

const MOST_ZOOM = 16;
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Board extends EventTarget {
  /** canvas: where to show. drawing: a Drawing. Tells of each new enlargement by "zoom". */
  constructor(canvas, drawing) {
    super();
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.drawing = drawing;
    this.tool = null;
    this.zoom = 1;
    this.offset = { x: 0, y: 0 };
    this.cursor = null; // where the keys are
    this.pointers = new Map();
    this.pinch = null;
    this.active = null; // the pointer that draws
    this.penSeen = false;
    this.image = new OffscreenCanvas(drawing.width, drawing.height);
    this.data = new ImageData(drawing.width, drawing.height);
    this.levels = new Uint32Array(this.data.data.buffer);
    this.due = false;
    drawing.addEventListener("change", () => this.show());
    new ResizeObserver(() => this.show()).observe(canvas);
    canvas.addEventListener("pointerdown", event => this.#down(event));
    canvas.addEventListener("pointermove", event => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, event => this.#up(event));
    canvas.addEventListener("contextmenu", event => event.preventDefault());
    canvas.addEventListener("wheel", event => this.#wheel(event), { passive: false });
    canvas.addEventListener("keydown", event => this.#key(event));
    canvas.addEventListener("blur", () => this.#leave());
  }

  /** CSS pixels of one pixel of the drawing. */
  get scale() { return this.canvas.clientWidth / this.drawing.width * this.zoom; }

  /** Show the drawing at the next opportunity. */
  show() {
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => {
      this.due = false;
      this.#paint();
    });
  }

  #paint() {
    const { canvas, context, drawing } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map(side => Math.round(side * devicePixelRatio));
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    this.levels.set(drawing.pixels);
    this.image.getContext("2d").putImageData(this.data, 0, 0);
    const scale = this.scale;
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, this.offset.x * devicePixelRatio, this.offset.y * devicePixelRatio);
    context.imageSmoothingEnabled = scale * devicePixelRatio < 1; // enlarged, its pixels stay sharp
    context.drawImage(this.image, 0, 0, drawing.width * scale, drawing.height * scale);
    this.tool?.paint(context, scale);
    if (this.cursor) {
      const { x, y } = this.cursor;
      for (const [style, width] of [["#000", 3.5], ["#fff", 1.5]]) {
        context.strokeStyle = style;
        context.lineWidth = width;
        context.beginPath();
        context.moveTo((x + .5) * scale - 9, (y + .5) * scale);
        context.lineTo((x + .5) * scale + 9, (y + .5) * scale);
        context.moveTo((x + .5) * scale, (y + .5) * scale - 9);
        context.lineTo((x + .5) * scale, (y + .5) * scale + 9);
        context.stroke();
      }
    }
  }

  /** Enlarge by a factor, so that a place on the canvas stays where it is. */
  enlarge(factor, at = { x: this.canvas.clientWidth / 2, y: this.canvas.clientHeight / 2 }) {
    const zoom = Math.min(MOST_ZOOM, Math.max(1, this.zoom * factor)), ratio = zoom / this.zoom;
    this.zoom = zoom;
    this.#place({ x: at.x - (at.x - this.offset.x) * ratio, y: at.y - (at.y - this.offset.y) * ratio });
  }

  #place({ x, y }) { // the drawing always covers the canvas
    const { clientWidth: width, clientHeight: height } = this.canvas, beyond = 1 - this.zoom;
    this.offset = { x: Math.min(0, Math.max(width * beyond, x)), y: Math.min(0, Math.max(height * beyond, y)) };
    this.show();
    this.dispatchEvent(new Event("zoom"));
  }

  #spot(event) { // on the canvas
    const box = this.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  #point(event) { // on the drawing
    const spot = this.#spot(event), { width, height } = this.drawing;
    const fx = (spot.x - this.offset.x) / this.scale, fy = (spot.y - this.offset.y) / this.scale;
    const pressure = event.pointerType === "pen" ? event.pressure : .5;
    const whole = (value, count) => Math.min(count - 1, Math.max(0, Math.floor(value)));
    return { x: whole(fx, width), y: whole(fy, height), fx, fy, pressure, alt: event.altKey };
  }

  #down(event) {
    if (event.pointerType === "mouse" && event.button > 0) {
      if (event.button === 2) this.dispatchEvent(new CustomEvent("pick", { detail: this.#point(event) }));
      return;
    }
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.cursor = null;
    this.canvas.setPointerCapture(event.pointerId);
    this.penSeen ||= event.pointerType === "pen";
    this.pointers.set(event.pointerId, this.#spot(event));
    if (this.pointers.size === 2) {
      if (this.active !== null) this.tool.cancel();
      this.active = null;
      this.pinch = this.#grip();
    } else if (this.pointers.size === 1 && !(this.penSeen && event.pointerType === "touch")) {
      this.active = event.pointerId;
      this.tool.down(this.#point(event));
      this.show();
    }
  }

  #grip() { // of two fingers: how far apart, and what lies between
    const [a, b] = this.pointers.values();
    return { apart: Math.hypot(a.x - b.x, a.y - b.y), middle: { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 } };
  }

  #move(event) {
    if (!this.pointers.has(event.pointerId)) return;
    const before = this.pointers.get(event.pointerId), now = this.#spot(event);
    this.pointers.set(event.pointerId, now);
    if (this.pinch && this.pointers.size === 2) {
      const grip = this.#grip();
      this.enlarge(grip.apart / this.pinch.apart, this.pinch.middle);
      this.#place({
        x: this.offset.x + grip.middle.x - this.pinch.middle.x,
        y: this.offset.y + grip.middle.y - this.pinch.middle.y,
      });
      this.pinch = grip;
    } else if (event.pointerId === this.active) {
      const steps = event.getCoalescedEvents?.() ?? [];
      for (const step of steps.length ? steps : [event]) this.tool.move(this.#point(step));
      this.show();
    } else if (!this.pinch && this.penSeen) { // beside a stylus, a finger moves the paper
      this.#place({ x: this.offset.x + now.x - before.x, y: this.offset.y + now.y - before.y });
    }
  }

  #up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    if (event.pointerId === this.active) {
      this.active = null;
      if (event.type === "pointerup") this.tool.up(this.#point(event));
      else this.tool.cancel();
      this.show();
    }
    if (!this.pointers.size) this.pinch = null;
  }

  #wheel(event) {
    event.preventDefault();
    if (event.ctrlKey || event.deltaMode || !event.shiftKey && Math.abs(event.deltaY) >= Math.abs(event.deltaX)) {
      this.enlarge(Math.exp(-event.deltaY * (event.deltaMode ? .05 : .002) * (event.ctrlKey ? 4 : 1)), this.#spot(event));
    } else this.#place({ x: this.offset.x - event.deltaX, y: this.offset.y - event.deltaY });
  }

  #key(event) { // arrows move a cross; Space presses the pointer there, and lets it go
    const move = MOVES[event.key];
    if (event.ctrlKey || event.metaKey || !move && event.key !== " " && event.key !== "Enter") return;
    if (move && this.dispatchEvent(new CustomEvent("nudge", { detail: move, cancelable: true })) === false) {
      return event.preventDefault();
    }
    event.preventDefault();
    const { width, height } = this.drawing;
    this.cursor ??= { x: width >> 1, y: height >> 1 };
    if (move) {
      const step = event.shiftKey ? 8 : 1;
      for (const [axis, by, count] of [["x", move[0], width], ["y", move[1], height]]) {
        this.cursor[axis] = Math.min(count - 1, Math.max(0, this.cursor[axis] + by * step));
      }
    }
    const { x, y } = this.cursor, point = { x, y, fx: x + .5, fy: y + .5, pressure: .5, alt: event.altKey };
    if (move && this.active === "keys") this.tool.move(point);
    if (!move && this.active === "keys") {
      this.active = null;
      this.tool.up(point);
    } else if (!move && this.active === null) {
      this.active = "keys";
      this.tool.down(point);
    }
    this.dispatchEvent(new CustomEvent("cursor", { detail: this.cursor }));
    this.show();
  }

  /** Give up what the pointer is in the middle of; returns whether there was anything. */
  cancel() {
    const busy = this.active !== null;
    if (busy) this.tool.cancel();
    this.active = null;
    this.show();
    return busy;
  }

  #leave() {
    if (this.active === "keys") this.cancel();
    this.cursor = null;
    this.show();
  }
}
