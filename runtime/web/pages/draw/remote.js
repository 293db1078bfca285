// The engine at the other end of the line: a drawing goes as PNG, its picture comes back as PNG.

import { encodePng } from "./png.js";

const AT_ONCE = 2; // on the way: one that is computed, one that waits to be

export class Engine {
  // a name for this page, so that its newest drawing replaces its older one there
  #visitor = Array.from(crypto.getRandomValues(new Uint32Array(4)), n => n.toString(36)).join("");
  onWay = 0;

  get ready() { return this.onWay < AT_ONCE; }

  async open() {}

  /** Return the picture of pixels 0xAABBGGRR as a Blob; null where a newer one took its place. Throws an Error. */
  async translate(pixels, width) {
    this.onWay++;
    try {
      const body = await encodePng(pixels, width);
      const headers = { "Content-Type": "image/png", "X-Visitor": this.#visitor };
      let answer;
      try {
        answer = await fetch("translate", { method: "POST", headers, body });
      } catch {
        throw new Error("There is no connection. Trying again …");
      }
      if (answer.status === 204) return null;
      if (answer.ok) return await answer.blob();
      if (answer.status === 401) location.reload(); // which asks for the token
      throw new Error((await answer.text()).trim().slice(0, 300));
    } finally {
      this.onWay--;
    }
  }
}
