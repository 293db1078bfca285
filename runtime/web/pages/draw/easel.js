// A drawing, what it starts from, and the picture that follows it.

import { Board } from "./board.js";
import { Drawing, packed } from "./drawing.js";
import { fetchBlob, readPicture } from "./pictures.js";
import { encodePng } from "./png.js";
import { Desk, toolsFor } from "./tools.js";

const PERIOD_MS = 16; // no screen shows more pictures
const AGAIN_MS = 1000;
const BLACK = packed([0, 0, 0]), WHITE = packed([255, 255, 255]);

export const at = id => document.getElementById(id);

let telling = 0;

/** Show a sentence for some seconds. */
export function tell(sentence) {
  clearTimeout(telling);
  at("note").textContent = sentence;
  telling = setTimeout(() => { at("note").textContent = ""; }, 6000);
}

/** Return an element in place of the one with that id, without what listened to it. */
function fresh(id) {
  const copy = at(id).cloneNode();
  at(id).replaceWith(copy);
  return copy;
}

/** One model on the page, until another one is chosen. Tells by "drawn" that the drawing has changed. */
export class Easel extends EventTarget {
  constructor(model, engine) {
    super();
    Object.assign(this, { model, engine });
    this.colours = model.palette.map(({ colour }) => packed(colour));
    this.labels = this.colours.length > 0;
    this.drawing = new Drawing(model.width, model.height, this.labels ? this.colours[0] : WHITE);
    this.desk = new Desk(this.drawing, this.labels ? this.colours[Math.min(6, this.colours.length - 1)] : BLACK);
    this.tools = toolsFor(this.desk, this.labels);
    this.gone = new AbortController(); // its listeners end with it
    this.dirty = false;
    this.version = 0;
    this.shown = 0;
    this.changedAt = 0;
    this.sentAt = 0;
    this.picture = null; // a Blob; of a local engine { levels, channels }
    this.tool = "";
    at("latency").textContent = "";
    this.board = new Board(fresh("board"), this.drawing);
    for (const id of ["picture", "veil"]) Object.assign(at(id), { width: model.width, height: model.height });
    document.documentElement.style.setProperty("--ratio", model.width / model.height);
  }

  on(target, name, action, options = {}) { target.addEventListener(name, action, { ...options, signal: this.gone.signal }); }

  async open() {
    this.on(this.drawing, "change", () => {
      this.version++;
      this.changedAt = performance.now();
      this.dirty = true;
      this.dispatchEvent(new Event("drawn"));
      this.pump();
    });
    await this.#begin();
    try {
      await this.engine.open(share => this.#progress(share));
      this.#progress(1);
      this.say("ready", "");
    } catch (error) {
      this.#fail(error);
    }
    this.pump();
  }

  // What the drawing starts from

  async #begin() {
    const kept = localStorage.getItem(this.#place);
    if (kept) await this.load(new Blob([Uint8Array.from(atob(kept), c => c.charCodeAt(0))]));
    else if (this.model.samples.length) await this.loadFrom(this.model.samples[0]);
    if (!this.version) this.drawing.changed();
    this.drawing.done.length = 0;
    this.dispatchEvent(new Event("drawn"));
  }

  get #place() { return `drawing ${this.model.name} ${this.model.width}`; }

  async load(blob) {
    try {
      const { pixels, note } = await readPicture(blob, this.model.width, this.model.height, this.colours);
      this.desk.set({ selection: null });
      this.drawing.retry();
      this.drawing.pixels.set(pixels);
      this.drawing.commit();
      if (note) tell(note);
    } catch (error) {
      tell(error.message);
    }
  }

  async loadFrom(url) {
    try {
      await this.load(await fetchBlob(url));
    } catch (error) {
      tell(error.message);
    }
  }

  house() {
    const { url, count } = this.model.houses;
    return this.loadFrom(url.replace("N", Math.floor(Math.random() * count)));
  }

  // The picture follows

  /** Send the newest drawing, where there is one and the engine is ready for it. */
  pump() {
    if (!this.dirty || !this.engine.ready || this.gone.signal.aborted) return;
    const early = this.sentAt + PERIOD_MS - performance.now();
    if (early > 0) return void setTimeout(() => this.pump(), early);
    this.dirty = false;
    this.sentAt = performance.now();
    const { version, changedAt } = this;
    this.#keepSoon();
    this.engine.translate(this.drawing.pixels.slice(), this.model.width).then(
      picture => {
        if (picture) return this.#show(picture, version, changedAt);
        if (version === this.version) this.dirty = true; // an older one came after it, and took its place
      },
      error => {
        this.#fail(error);
        setTimeout(() => { // the same drawing again, where there is no newer one
          this.dirty = true;
          this.pump();
        }, AGAIN_MS);
      },
    ).finally(() => this.pump());
    this.pump();
  }

  async #show(picture, version, changedAt) {
    if (version <= this.shown || this.gone.signal.aborted) return;
    const context = at("picture").getContext("2d");
    if (picture instanceof Blob) {
      const bitmap = await createImageBitmap(picture);
      if (version <= this.shown || this.gone.signal.aborted) return;
      context.drawImage(bitmap, 0, 0);
    } else context.putImageData(new ImageData(new Uint8ClampedArray(picture.levels.buffer), this.model.width), 0, 0);
    this.shown = version;
    this.picture = picture;
    requestAnimationFrame(() => {
      const ms = performance.now() - changedAt;
      at("latency").textContent = `${Math.round(ms)} ms`;
      document.dispatchEvent(new CustomEvent("picture", { detail: { ms, version, newest: version === this.version } }));
    });
    this.say("ready", "");
  }

  #fail(error) { this.say("trouble", error.message); }

  say(state, message) {
    at("state").className = `pill ${state}`;
    at("state").textContent = { ready: "ready", trouble: "no picture", busy: "opening" }[state];
    at("state").title = message;
    if (message) tell(message);
  }

  #progress(share) {
    at("progress").hidden = share >= 1;
    at("loaded").value = share;
    at("loading").textContent = `The model loads … ${Math.round(100 * share)} %`;
  }

  // It survives a reload

  #keepSoon() {
    clearTimeout(this.keeping);
    this.keeping = setTimeout(() => this.keep(), 200);
  }

  async keep() {
    clearTimeout(this.keeping);
    const png = await encodePng(this.drawing.before, this.model.width), bytes = new Uint8Array(await png.arrayBuffer());
    let text = "";
    for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
    try {
      localStorage.setItem(this.#place, btoa(text));
    } catch { // full, or forbidden: then it does not survive
    }
  }

  use(name) {
    this.board.cancel();
    if (!["select", "repeat"].includes(name)) this.desk.set({ selection: null }); // what is drawn next is what is meant then
    this.tool = name;
    this.board.tool = this.tools[name];
    this.board.show();
    this.dispatchEvent(new Event("drawn"));
  }

  undo() {
    this.board.cancel();
    this.desk.set({ selection: null });
    this.drawing.undo();
  }

  redo() {
    this.board.cancel();
    this.desk.set({ selection: null });
    this.drawing.redo();
  }

  clear() {
    this.board.cancel();
    this.desk.set({ selection: null });
    this.drawing.fillAll(this.drawing.paper);
    this.drawing.commit();
  }

  // Files to keep

  pictureFile() {
    const { picture } = this;
    return picture instanceof Blob ? picture
      : encodePng(new Uint32Array(picture.levels.buffer), this.model.width, picture.channels);
  }

  async both() {
    const { width, height } = this.model, both = new Uint32Array(2 * width * height);
    const { data } = at("picture").getContext("2d").getImageData(0, 0, width, height), picture = new Uint32Array(data.buffer);
    for (let start = 0; start < picture.length; start += width) {
      both.set(this.drawing.pixels.subarray(start, start + width), 2 * start);
      both.set(picture.subarray(start, start + width), 2 * start + width);
    }
    return encodePng(both, 2 * width);
  }

  close() {
    this.keep();
    this.gone.abort();
    this.engine.close?.();
  }
}
