// The golden images through this browser: its own decoder, this page's resizing, its own arithmetic.

import { element } from "./app.js";
import { fetched, openModel, readPicture } from "./classifier.js";

/** Largest difference of a logit that is rounding; `cifarnet conformance` holds apps to the same. */
const TOLERANCE = 1e-4;

/** Show in the page's badge whether this browser gives the golden outputs, those in `folder`. */
export async function wearBadge(folder) {
  const [badge, text, words, body] = ["badge", "badge-text", "badge-words", "badge-rows"].map((id) => document.getElementById(id));
  badge.hidden = false;
  try {
    const rows = await checkGolden(folder);
    const agreeing = rows.filter((row) => row.agrees).length;
    const worst = Math.max(...rows.map((row) => row.difference)).toExponential(0);
    text.textContent = `golden images: ${agreeing} of ${rows.length}`;
    words.textContent =
      `This browser gives the right answer to ${agreeing} of ${rows.length} golden images: every byte of the input ` +
      `right, no logit off by more than rounding (largest difference ${worst}).`;
    body.replaceChildren(...rows.map(badgeRow));
    badge.dataset.state = agreeing === rows.length ? "agrees" : "differs";
  } catch (error) {
    text.textContent = "golden images not checked";
    words.textContent = error.message;
    badge.dataset.state = "differs";
  }
}

function badgeRow({ file, what, wrongBytes, difference, agrees }) {
  const row = element("tr", agrees ? "agrees" : "differs", "");
  const name = element("td", "", file.replace("images/", ""));
  name.append(element("small", "", what));
  row.append(name, element("td", "", wrongBytes), element("td", "", difference.toExponential(1)));
  return row;
}

/** Return for each golden image how many bytes of its input are wrong and how far its logits are off. */
async function checkGolden(folder) {
  const { images } = await (await fetched(`${folder}golden.json`)).json();
  const { input } = await (await fetched(`${folder}model.json`)).json();
  const classify = await openModel(`${folder}model.onnx`, input.shape);
  const rows = [];
  for (const image of images) {
    const pixels = await readPicture(await (await fetched(folder + image.file)).blob(), input.shape);
    const expected = Uint8Array.from(atob(image.pixels), (character) => character.charCodeAt(0));
    const { logits } = await classify(pixels);
    const wrongBytes = expected.filter((byte, index) => byte !== pixels[index]).length;
    const difference = Math.max(...image.logits.map((logit, index) => Math.abs(logit - logits[index])));
    rows.push({ ...image, wrongBytes, difference, agrees: wrongBytes === 0 && difference <= TOLERANCE });
  }
  return rows;
}
