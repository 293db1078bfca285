// What stands around the drawing: the palette, the tools' buttons, the keys.

import { css, packed } from "./drawing.js";
import { at } from "./easel.js";
import { keep } from "./pictures.js";
import { encodePng } from "./png.js";

const KEYS = { r: "rectangle", b: "brush", e: "eraser", f: "fill", i: "pick", s: "select", g: "repeat" };
const COLOUR_KEYS = "1234567890-=";

/** The bars of an easel: they do what is asked of them, and show what is so. */
export class Bars {
  constructor(easel) {
    this.easel = easel;
    const { desk, labels } = easel;
    this.#palette();
    this.#controls();
    easel.use(labels ? "rectangle" : "brush");
    easel.on(desk, "change", () => this.#mark());
    easel.on(easel, "drawn", () => {
      this.#veil();
      this.#mark();
    });
    this.#mark();
  }

  #palette() {
    const { easel } = this, box = at("swatches");
    box.replaceChildren();
    at("palette-title").textContent = easel.labels ? "Parts" : "Ink";
    at("palette-title").hidden = !easel.labels;
    at("ink").hidden = easel.labels;
    easel.model.palette.forEach(({ name, colour }, index) => {
      const swatch = document.createElement("canvas"), context = swatch.getContext("2d");
      swatch.width = swatch.height = 1;
      context.fillStyle = css(packed(colour));
      context.fillRect(0, 0, 1, 1);
      const button = document.createElement("button");
      button.setAttribute("role", "radio");
      button.append(swatch, name);
      if (COLOUR_KEYS[index]) button.append(Object.assign(document.createElement("kbd"), { textContent: COLOUR_KEYS[index] }));
      easel.on(button, "click", () => this.choose(index));
      easel.on(button, "keydown", event => {
        const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        const next = (index + step + easel.colours.length) % easel.colours.length;
        this.choose(next);
        box.children[next].focus();
      });
      box.append(button);
    });
  }

  choose(index) {
    const { easel } = this;
    easel.desk.set({ colour: easel.colours[index] });
    if (["eraser", "pick", "select", "repeat"].includes(easel.tool)) easel.use(easel.labels ? "rectangle" : "brush");
  }

  #mark() { // every bar says what is so
    const { easel } = this, { desk, drawing } = easel;
    for (const button of document.querySelectorAll("[data-tool]")) {
      button.setAttribute("aria-pressed", String(button.dataset.tool === easel.tool));
    }
    [...at("swatches").children].forEach((button, index) => {
      const chosen = easel.colours[index] === desk.colour;
      button.setAttribute("aria-checked", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
    });
    for (const control of document.querySelectorAll("[data-for]")) {
      control.hidden = !control.dataset.for.split(" ").includes(easel.tool);
    }
    at("hint").textContent = easel.tool === "repeat" && !easel.tools.repeat.motif
      ? "Draw something first, or select it: that is what is repeated." : easel.tools[easel.tool].hint;
    at("board").classList.toggle("picking", easel.tool === "pick");
    at("mirror").setAttribute("aria-pressed", String(desk.mirror));
    at("copies").setAttribute("aria-pressed", String(desk.copies));
    at("flip").disabled = at("remove").disabled = !desk.selection;
    at("undo").disabled = !drawing.done.length;
    at("redo").disabled = !drawing.undone.length;
    at("width").value = desk.width;
    at("gap").value = desk.gap;
    easel.board.show();
  }

  #veil() {
    const { easel } = this;
    if (at("veil").hidden) return;
    const data = new ImageData(easel.model.width, easel.model.height);
    new Uint32Array(data.data.buffer).set(easel.drawing.pixels);
    at("veil").getContext("2d").putImageData(data, 0, 0);
    at("veil").style.clipPath = `inset(0 ${100 - at("divide").value}% 0 0)`;
  }

  #compare() {
    at("veil").hidden = at("divide").hidden = !at("compare").checked;
    this.#veil();
  }

  #controls() {
    const { easel } = this, { desk, drawing, board, model } = easel;
    const press = (id, action) => easel.on(at(id), "click", action);
    for (const button of document.querySelectorAll("[data-tool]")) easel.on(button, "click", () => easel.use(button.dataset.tool));
    press("mirror", () => desk.set({ mirror: !desk.mirror }));
    press("copies", () => desk.set({ copies: !desk.copies }));
    press("flip", () => easel.tools.select.flip());
    press("remove", () => easel.tools.select.remove());
    press("undo", () => easel.undo());
    press("redo", () => easel.redo());
    press("clear", () => easel.clear());
    press("larger", () => board.enlarge(1.5));
    press("smaller", () => board.enlarge(1 / 1.5));
    press("fitting", () => board.enlarge(0));
    press("house", () => easel.house());
    press("open", () => at("file").click());
    press("camera", () => at("photo").click());
    press("help", () => at("help-text").showModal());
    press("keep-drawing", async () => keep(await encodePng(drawing.pixels, easel.model.width), "drawing.png"));
    press("keep-picture", async () => easel.picture && keep(await easel.pictureFile(), "picture.png"));
    press("keep-both", async () => easel.picture && keep(await easel.both(), "both.png"));
    easel.on(board, "zoom", () => { at("fitting").textContent = `${board.zoom.toFixed(1).replace(".0", "")}×`; });
    easel.on(board, "pick", event => desk.set({ colour: drawing.at(event.detail) }));
    easel.on(board, "nudge", event => {
      if (easel.tool !== "select" || !desk.selection) return;
      event.preventDefault();
      easel.tools.select.nudge(...event.detail);
    });
    easel.on(at("width"), "input", () => desk.set({ width: Number(at("width").value) }));
    easel.on(at("gap"), "input", () => desk.set({ gap: Number(at("gap").value) }));
    easel.on(at("ink-colour"), "input", () => {
      desk.set({ colour: packed([1, 3, 5].map(i => parseInt(at("ink-colour").value.slice(i, i + 2), 16))) });
    });
    easel.on(at("compare"), "change", () => this.#compare());
    easel.on(at("divide"), "input", () => this.#veil());
    for (const id of ["file", "photo"]) {
      easel.on(at(id), "change", () => {
        if (at(id).files.length) easel.load(at(id).files[0]);
        at(id).value = "";
      });
    }
    at("house").hidden = !model.houses;
    at("sample-choice").hidden = !model.samples.length;
    at("sample").replaceChildren(new Option("Samples", ""), ...model.samples.map((url, i) => new Option(`Sample ${i + 1}`, url)));
    easel.on(at("sample"), "change", () => {
      if (at("sample").value) easel.loadFrom(at("sample").value);
      at("sample").value = "";
    });
    at("camera").hidden = easel.labels || !matchMedia("(pointer: coarse)").matches;
    at("where").textContent = model.file ? "or sent anywhere" : "by the server";
    this.#compare();
    easel.on(document, "keydown", event => this.#key(event));
    easel.on(document, "paste", event => {
      const item = [...event.clipboardData.items].find(({ type }) => type.startsWith("image/"));
      if (item) easel.load(item.getAsFile());
    });
    easel.on(document, "dragover", event => event.preventDefault());
    easel.on(document, "drop", event => {
      event.preventDefault();
      if (event.dataTransfer.files.length) easel.load(event.dataTransfer.files[0]);
    });
    easel.on(document, "visibilitychange", () => {
      if (document.hidden) easel.keep();
      else easel.pump();
    });
  }

  #key(event) {
    if (at("help-text").open || event.target.matches("input, select") && event.key !== "Escape") return;
    const { easel } = this, { desk } = easel, key = event.key.toLowerCase(), selected = easel.tool === "select" && desk.selection;
    const all = { x: 0, y: 0, w: easel.model.width, h: easel.model.height };
    const actions = event.ctrlKey || event.metaKey ? {
      z: () => event.shiftKey ? easel.redo() : easel.undo(), y: () => easel.redo(),
      a: () => (easel.use("select"), desk.set({ selection: all })),
    } : {
      "[": () => desk.set({ width: Math.max(1, desk.width - 1) }), "]": () => desk.set({ width: Math.min(48, desk.width + 1) }),
      m: () => desk.set({ mirror: !desk.mirror }), h: () => at("house").hidden || easel.house(), c: () => at("compare").click(),
      "?": () => at("help-text").showModal(), "+": () => easel.board.enlarge(1.5),
      ...(selected ? { delete: () => easel.tools.select.remove(), backspace: () => easel.tools.select.remove() } : {}),
      escape: () => easel.board.cancel() || desk.set({ selection: null }),
      ...Object.fromEntries(easel.colours.map((_, i) => [COLOUR_KEYS[i], () => this.choose(i)])),
      ...Object.fromEntries(Object.entries(KEYS).map(([letter, tool]) => [letter, () => easel.use(tool)])),
    };
    if (!actions[key] || event.altKey) return;
    event.preventDefault();
    actions[key]();
  }
}
