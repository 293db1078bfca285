// The tools: what a press, a move and a release of the pointer do to the drawing.
//
// A tool has down(point), move(point) and up(point), and may have paint(context, scale) for what it shows above the
// drawing. A point is a pixel {x, y}, with {fx, fy} in fractions of pixels and the pen's pressure from 0 to 1.

import { flipped, spanned } from "./drawing.js";

/** What the tools share: the drawing, and what the bars around it say. */
export class Desk extends EventTarget {
  constructor(drawing, colour) {
    super();
    this.drawing = drawing;
    this.colour = colour;
    this.width = 6;
    this.gap = 10;
    this.mirror = false;
    this.copies = false;
    /** A rectangle {x, y, w, h}, or null. */
    this.selection = null;
  }

  set(values) {
    Object.assign(this, values);
    this.dispatchEvent(new Event("change"));
  }

  /** Do something here and, where the drawing is mirrored, on the other side too. */
  both(draw) {
    draw(point => point, area => area);
    if (!this.mirror) return;
    const { width } = this.drawing;
    const over = point => ({ ...point, x: width - 1 - point.x, fx: width - point.fx });
    draw(over, area => ({ ...area, x: width - area.x - area.w }));
  }
}

class Tool {
  constructor(desk) {
    this.desk = desk;
    this.start = null;
  }

  get drawing() { return this.desk.drawing; }

  down(point) {
    this.start = point;
    this.move(point);
  }

  up(point) {
    if (this.start) this.move(point);
    this.start = null;
    this.drawing.commit();
  }

  cancel() {
    this.start = null;
    this.drawing.cancel();
  }

  paint() {}
}

class Rectangle extends Tool {
  hint = "Drag out a rectangle.";

  move(point) {
    if (!this.start) return;
    const area = spanned(this.start, point);
    this.drawing.retry();
    this.desk.both((_, place) => this.drawing.fillRect(place(area), this.desk.colour));
    this.drawing.changed();
  }
}

class Brush extends Tool {
  hint = "Draw freely. [ and ] change the width.";

  get colour() { return this.desk.colour; }

  move(point) {
    if (!this.start) return;
    this.desk.both(place => this.drawing.brush(place(this.start), place(point), this.desk.width, this.colour));
    this.start = point;
    this.drawing.changed();
  }
}

class Eraser extends Brush {
  hint = "Take away what is drawn.";

  get colour() { return this.drawing.paper; }
}

class Pen extends Tool {
  hint = "Draw lines; a stylus presses them wider.";

  get colour() { return this.desk.colour; }

  end({ fx, fy, pressure }) { return { x: fx, y: fy, width: this.desk.width * (.4 + 1.2 * pressure) }; }

  move(point) {
    if (!this.start) return;
    this.desk.both(place => this.drawing.pen(this.end(place(this.start)), this.end(place(point)), this.colour));
    this.start = point;
    this.drawing.changed();
  }
}

class Rubber extends Pen {
  hint = "Rub lines out.";

  get colour() { return this.drawing.paper; }

  end(point) { return { ...super.end(point), width: 3 * this.desk.width }; }
}

class Fill extends Tool {
  hint = "Fill what has one colour.";

  down(point) {
    this.desk.both(place => this.drawing.flood(place(point), this.desk.colour));
    this.drawing.commit();
  }

  move() {}
  up() {}
}

class Pick extends Tool {
  hint = "Take the colour of what is drawn.";

  down(point) {
    this.start = point;
    this.move(point);
  }

  move(point) { if (this.start) this.desk.set({ colour: this.drawing.at(point) }); }

  up() { this.start = null; }
  cancel() { this.start = null; }
}

const inside = ({ x, y }, area) => area && x >= area.x && y >= area.y && x < area.x + area.w && y < area.y + area.h;

function outline(context, { x, y, w, h }, scale) {
  for (const [style, dash] of [["#000", []], ["#fff", [5, 5]]]) {
    context.setLineDash(dash);
    context.strokeStyle = style;
    context.lineWidth = 1.5;
    context.strokeRect(x * scale, y * scale, w * scale, h * scale);
  }
  context.setLineDash([]);
}

class Select extends Tool {
  hint = "Drag around a part, then drag it elsewhere; with Alt, or Copy, it stays here too.";

  down(point) {
    this.start = point;
    this.held = inside(point, this.desk.selection) ? this.lift() : null;
    if (!this.held) this.desk.set({ selection: null });
  }

  /** Take up what is selected. */
  lift() {
    const from = this.desk.selection;
    return { from, block: this.drawing.copy(from, this.drawing.before), under: this.drawing.around(from) };
  }

  move(point) {
    if (!this.start) return;
    if (this.held) this.shift(this.held, point.x - this.start.x, point.y - this.start.y, point.alt || this.desk.copies);
    else this.desk.set({ selection: spanned(this.start, point) });
  }

  shift({ from, block, under }, dx, dy, stays) {
    const to = { ...from, x: from.x + dx, y: from.y + dy };
    this.drawing.retry();
    if (!stays) this.drawing.fillRect(from, under);
    this.drawing.paste(block, to);
    this.drawing.changed();
    this.desk.set({ selection: to });
  }

  cancel() {
    if (this.held) this.desk.set({ selection: this.held.from });
    super.cancel();
  }

  nudge(dx, dy) {
    this.shift(this.lift(), dx, dy, false);
    this.drawing.commit();
  }

  remove() {
    this.drawing.fillRect(this.desk.selection, this.drawing.around(this.desk.selection));
    this.drawing.commit();
  }

  flip() {
    const area = this.desk.selection;
    this.drawing.paste(flipped(this.drawing.copy(area), area.w), area);
    this.drawing.commit();
  }

  paint(context, scale) { if (this.desk.selection) outline(context, this.desk.selection, scale); }
}

class Repeat extends Tool {
  hint = "Drag from the outlined part over the place for its copies.";

  /** What is repeated: what is selected, else what was drawn last. */
  get motif() { return this.desk.selection ?? this.drawing.last; }

  down(point) {
    if (!this.motif) return;
    this.start = point;
    this.part = { ...this.motif };
    this.block = this.drawing.copy(this.part);
    this.move(point);
  }

  /** Return where the copies go along one side: as many as fit with the gap, the last one ending at the pointer. */
  static places(from, length, to, gap) {
    const first = Math.min(from, to), last = Math.max(from + length - 1, to) - length + 1;
    const count = Math.floor((last - first) / (length + gap)) + 1;
    if (count < 2) return [from];
    return Array.from({ length: count }, (_, i) => Math.round(first + (last - first) * i / (count - 1)));
  }

  move(point) {
    if (!this.start) return;
    const { x, y, w, h } = this.part;
    const columns = Repeat.places(x, w, point.x, this.desk.gap), rows = Repeat.places(y, h, point.y, this.desk.gap);
    this.drawing.retry();
    for (const top of rows) {
      for (const left of columns) {
        this.desk.both((_, place) => {
          const area = { x: left, y: top, w, h }, over = place(area);
          this.drawing.paste(over.x === left ? this.block : flipped(this.block, w), over);
        });
      }
    }
    this.count = `${columns.length} × ${rows.length}`;
    this.reach = spanned({ x: columns[0], y: rows[0] }, { x: columns.at(-1) + w - 1, y: rows.at(-1) + h - 1 });
    this.drawing.changed();
  }

  up(point) {
    const part = this.motif;
    super.up(point);
    this.drawing.last = part; // it may be dragged out again
  }

  paint(context, scale) {
    if (this.start) {
      outline(context, this.reach, scale);
      context.font = "600 13px system-ui";
      const width = context.measureText(this.count).width + 16;
      const left = this.reach.x * scale, top = Math.max(0, this.reach.y * scale - 26);
      context.fillStyle = "rgb(0 0 0 / .75)";
      context.fillRect(left, top, width, 22);
      context.fillStyle = "#fff";
      context.fillText(this.count, left + 8, top + 15.5);
    } else if (this.motif) outline(context, this.motif, scale);
  }
}

/** Return the tools of a model: of label maps, or of sketches and photographs. */
export function toolsFor(desk, labels) {
  const kinds = labels
    ? { rectangle: Rectangle, brush: Brush, eraser: Eraser, fill: Fill, pick: Pick, select: Select, repeat: Repeat }
    : { brush: Pen, eraser: Rubber, rectangle: Rectangle, fill: Fill, pick: Pick, select: Select, repeat: Repeat };
  return Object.fromEntries(Object.entries(kinds).map(([name, kind]) => [name, new kind(desk)]));
}
