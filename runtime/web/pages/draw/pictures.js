// Pictures from elsewhere: files, the clipboard, the phone's camera, addresses of this page.

import { snap } from "./drawing.js";

const MOST_BYTES = 32 << 20;

/** Return a picture as pixels 0xAABBGGRR in so many columns and rows, and what there is to say about it.
 *
 * palette: packed colours, empty where every colour is welcome. Label maps keep their edges; of other pictures the middle
 * is taken that has the same shape, and made smaller smoothly. Throws an Error with one sentence.
 */
export async function readPicture(blob, columns, rows, palette) {
  if (blob.size > MOST_BYTES) {
    throw new Error(`That file has ${Math.round(blob.size / 1e6)} MB; a picture may have ${MOST_BYTES >> 20} MB.`);
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Error("That is no picture that this browser can read.");
  }
  const { width, height } = bitmap, labels = palette.length > 0;
  const context = new OffscreenCanvas(columns, rows).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff"; // what a transparent picture lies on
  context.fillRect(0, 0, columns, rows);
  context.imageSmoothingEnabled = !labels;
  context.imageSmoothingQuality = "high";
  const scale = Math.min(width / columns, height / rows), [w, h] = labels ? [width, height] : [columns * scale, rows * scale];
  context.drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h, 0, 0, columns, rows);
  bitmap.close();
  const pixels = new Uint32Array(context.getImageData(0, 0, columns, rows).data.buffer);
  const notes = [];
  if (width !== columns || height !== rows) notes.push(`It had ${width} × ${height} pixels, and has ${columns} × ${rows} now.`);
  const snapped = labels ? snap(pixels, palette) : 0;
  if (snapped) {
    const share = Math.max(1, Math.round(100 * snapped / pixels.length));
    notes.push(`${share} % of it was off the palette, and took the nearest colour.`);
  }
  return { pixels, note: notes.join(" ") };
}

/** Return a file of this page. Throws an Error with one sentence. */
export async function fetchBlob(url) {
  let answer;
  try {
    answer = await fetch(url);
  } catch {
    throw new Error("There is no connection.");
  }
  if (!answer.ok) throw new Error((await answer.text()).slice(0, 200) || `Status ${answer.status}.`);
  return answer.blob();
}

/** Offer a Blob as a file to keep. */
export function keep(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
