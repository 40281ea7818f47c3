// node classify.js MODEL.onnx IMAGE... [--json]: the most probable class of each image, or all logits as JSON.

import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { parseArgs } from "node:util";

import { InferenceSession, Tensor } from "onnxruntime-node";
import sharp from "sharp";

import { toModelInput } from "../browser/resize.js";

/** Return 3072 bytes: the picture upright, over white, its centre square scaled to 32x32, RGB. */
export async function readPicture(file) {
  const picture = sharp(file, { ignoreIcc: true }).autoOrient().toColourspace("srgb").ensureAlpha();
  const { data, info } = await picture.raw({ depth: "uchar" }).toBuffer({ resolveWithObject: true });
  return toModelInput({ width: info.width, height: info.height, data });
}

const { values, positionals } = parseArgs({ options: { json: { type: "boolean" } }, allowPositionals: true });
const [model, ...files] = positionals;
if (!files.length) throw new Error("expected a model and images: node classify.js MODEL.onnx IMAGE... [--json]");
const { labels } = JSON.parse(await readFile(model.replace(/\.onnx$/, ".json"))); // the model's own copy is not exposed
const session = await InferenceSession.create(model);
const answers = {};
for (const file of files) {
  const images = new Tensor("uint8", await readPicture(file), [1, 32, 32, 3]);
  const { logits, probabilities } = await session.run({ images });
  answers[basename(file)] = [...logits.data];
  const best = probabilities.data.indexOf(Math.max(...probabilities.data));
  if (!values.json) console.log(`${file}: ${labels[best]} ${(100 * probabilities.data[best]).toFixed(1)} %`);
}
if (values.json) console.log(JSON.stringify(answers));
