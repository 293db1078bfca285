// The thread in which the engine computes.

import * as ort from "./onnxruntime.js";

const RUNTIME = "onnxruntime.wasm";

let session = null;

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
  session = await ort.InferenceSession.create(graph, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
  postMessage({ opened: true });
}

/** Return RGBA pixels in `to` channels of each, or the other way round: grey has R, G and B alike, what has no alpha is opaque. */
function recast(levels, from, to) {
  const count = levels.length / from, recast = new Uint8Array(count * to).fill(255);
  for (let i = 0; i < count; i++) {
    for (let channel = 0; channel < to; channel++) {
      if (channel < 3 || from === 4) recast[i * to + channel] = levels[i * from + (from === 1 ? 0 : channel)];
    }
  }
  return recast;
}

async function translate(pixels) {
  const { shape } = session.inputMetadata[0], image = recast(new Uint8Array(pixels.buffer), 4, shape[3]);
  const { translated } = await session.run({ image: new ort.Tensor("uint8", image, shape) }), channels = translated.dims[3];
  const levels = recast(translated.data, channels, 4);
  postMessage({ levels, channels }, [levels.buffer]);
}

onmessage = ({ data }) => {
  (data.open ? open(data.open) : translate(data.pixels)).catch(error => postMessage({ error: String(error.message ?? error) }));
};
