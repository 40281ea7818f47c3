// node classify.js MODEL.onnx IMAGE... [--abstain] [--json]: the most probable class of each image, or that the model is
// not sure, or logits and calibrated probabilities as JSON.

import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { parseArgs } from "node:util";

import { InferenceSession, Tensor } from "onnxruntime-node";
import sharp from "sharp";

import { toModelInput } from "../browser/resize.js";

/** Return the bytes of the model's input, RGB: the image upright, over white, its central square resized to `shape`. */
export async function readPicture(file, shape) {
  const picture = sharp(file, { ignoreIcc: true }).autoOrient().toColourspace("srgb").ensureAlpha();
  const { data, info } = await picture.raw({ depth: "uchar" }).toBuffer({ resolveWithObject: true });
  return toModelInput({ width: info.width, height: info.height, data }, shape);
}

/** Return what a step comes to, or end the program with one line that says what is wrong with a file. */
async function using(file, expected, step) {
  try {
    return await step();
  } catch (error) {
    return fail(`${file} cannot be used (${error.message.split("\n")[0]}); expected ${expected}`);
  }
}

function fail(message) {
  console.error(`error: ${message}`);
  process.exit(1);
}

process.stdout.on("error", () => process.exit()); // the reader has ended, as `head` does
const options = { abstain: { type: "boolean" }, json: { type: "boolean" } };
const { values, positionals } = parseArgs({ options, allowPositionals: true });
const [model, ...files] = positionals;
if (!files.length) fail("expected a model and images: node classify.js MODEL.onnx IMAGE... [--abstain] [--json]");
const names = files.map((file) => basename(file));
const twice = names.find((name, index) => names.indexOf(name) < index);
if (values.json && twice) fail(`two images are named ${twice}; expected different names with --json: rename one`);
const session = await using(model, "a model from `cifarnet export --onnx`", () => InferenceSession.create(model));
const beside = model.replace(/\.onnx$/, ".json"); // the model's own copy is not exposed
const { labels, shape, abstention } = await using(beside, "what `cifarnet export` wrote beside the model", async () => {
  const { labels, input, calibration } = JSON.parse(await readFile(beside));
  if (!labels) throw new Error("it lacks 'labels'");
  if (!input) throw new Error("it lacks 'input'");
  return { labels, shape: input.shape, abstention: calibration?.abstention };
});
if (values.abstain && !abstention) fail(`${model} names no threshold to abstain by: leave --abstain out`);
// A file of `export_model` has calibrated probabilities only if validation images were given.
const output = session.outputNames.at(-1);
const answers = {};
for (const file of files) {
  const pixels = await using(file, "an image file", () => readPicture(file, shape));
  const images = new Tensor("uint8", pixels, [1, ...shape.slice(1)]);
  const { logits, [output]: { data } } = await session.run({ images });
  answers[basename(file)] = { logits: [...logits.data], [output]: [...data] };
  const confidence = Math.max(...data);
  const unsure = values.abstain && confidence < abstention.threshold ? "not sure, perhaps " : "";
  const label = labels[data.indexOf(confidence)];
  if (!values.json) console.log(`${file}: ${unsure}${label} ${(100 * confidence).toFixed(1)}%`);
}
if (values.json) console.log(JSON.stringify(answers));
