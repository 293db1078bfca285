// The thread in which the engine computes.

import * as ort from "./onnxruntime.js";

const RUNTIME = "onnxruntime.wasm";

let session = null, size = 0;

/** Fetch files, and tell how much of their bytes has come. */
async function load(files, bytes) {
  let come = 0;
  return Promise.all(files.map(async file => {
    const answer = await fetch(file);
    if (!answer.ok) throw new Error(`${file} cannot be loaded (${answer.status}).`);
    const parts = [];
    for (const reader = answer.body.getReader(); ;) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
      come += value.length;
      postMessage({ share: Math.min(.99, come / bytes) });
    }
    return new Uint8Array(await new Blob(parts).arrayBuffer());
  }));
}

async function open(model) {
  const [runtime, graph] = await load([RUNTIME, model.file], model.bytes);
  ort.env.logLevel = "fatal"; // what matters is thrown
  ort.env.wasm.numThreads = 1; // more would need headers that few static hosts send
  ort.env.wasm.wasmBinary = runtime.buffer;
  size = model.size;
  session = await ort.InferenceSession.create(graph, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
  postMessage({ opened: true });
}

async function translate(pixels) {
  const levels = new Uint8Array(pixels.buffer), image = new Uint8Array(3 * size * size);
  for (let from = 0, to = 0; to < image.length; from += 4) {
    image[to++] = levels[from];
    image[to++] = levels[from + 1];
    image[to++] = levels[from + 2];
  }
  const { translated } = await session.run({ image: new ort.Tensor("uint8", image, [1, size, size, 3]) });
  const picture = new Uint8Array(4 * size * size).fill(255);
  for (let from = 0, to = 0; from < translated.data.length; to += 4) {
    picture[to] = translated.data[from++];
    picture[to + 1] = translated.data[from++];
    picture[to + 2] = translated.data[from++];
  }
  postMessage({ picture }, [picture.buffer]);
}

onmessage = ({ data }) => {
  (data.open ? open(data.open) : translate(data.pixels)).catch(error => postMessage({ error: String(error.message ?? error) }));
};
