// The golden images through this browser: its own decoder, this page's resizing, its own arithmetic.

import { fetched, openModel, readPicture } from "./classifier.js";

/** Largest difference of a logit that is rounding; `cifarnet conformance` holds apps to the same. */
const TOLERANCE = 1e-4;

/** Return for each golden image how many of its 3072 bytes are wrong and how far its logits are off. */
export async function checkGolden(folder) {
  const { images } = await (await fetched(`${folder}golden.json`)).json();
  const classify = await openModel(`${folder}model.onnx`);
  const rows = [];
  for (const image of images) {
    const pixels = await readPicture(await (await fetched(folder + image.file)).blob());
    const expected = Uint8Array.from(atob(image.pixels), (character) => character.charCodeAt(0));
    const { logits } = await classify(pixels);
    const wrongBytes = expected.filter((byte, index) => byte !== pixels[index]).length;
    const difference = Math.max(...image.logits.map((logit, index) => Math.abs(logit - logits[index])));
    rows.push({ ...image, wrongBytes, difference, agrees: wrongBytes === 0 && difference <= TOLERANCE });
  }
  return rows;
}
