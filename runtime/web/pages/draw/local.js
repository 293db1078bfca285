// The engine in the browser itself: ONNX Runtime's WebAssembly build, in a thread of its own.

export class Engine {
  constructor({ file, bytes }) {
    this.model = { file, bytes };
    this.worker = new Worker("worker.js", { type: "module" });
    this.answer = null; // what the picture under way is given to
    this.open_ = false;
  }

  get ready() { return this.open_ && !this.answer; }

  /** Load the runtime and the model. progress: is told the share that has come, from 0 to 1. */
  open(progress) {
    return new Promise((done, failed) => {
      this.worker.onerror = event => failed(new Error(event.message || "The engine cannot be started here."));
      this.worker.onmessage = ({ data }) => {
        if ("share" in data) progress(data.share);
        else if (data.opened) done(this.#opened());
        else if (data.error) (this.answer?.failed ?? failed)(this.#finished(new Error(data.error)));
        else this.answer.done(this.#finished(data));
      };
      this.worker.postMessage({ open: this.model });
    });
  }

  #opened() { this.open_ = true; }

  #finished(result) {
    this.answer = null;
    return result;
  }

  /** Return the picture of pixels 0xAABBGGRR: { levels, bytes RGBA, and channels, how many it has }. Throws an Error. */
  translate(pixels) {
    return new Promise((done, failed) => {
      this.answer = { done, failed };
      this.worker.postMessage({ pixels }, [pixels.buffer]);
    });
  }

  close() { this.worker.terminate(); }
}
