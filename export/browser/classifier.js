// All that a page needs to classify: an image becomes the bytes of the model's input, and these its outputs.

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";
import { toModelInput } from "./resize.js";

ort.env.wasm.numThreads = 1; // more would need headers that a plain file server does not send

/** Return the bytes of an image, a Blob in any format that the browser reads, in the model's `input.shape`. */
export async function readPicture(blob, shape) {
  const bitmap = await createImageBitmap(blob, {
    imageOrientation: "from-image",
    colorSpaceConversion: "none",
    premultiplyAlpha: "none",
  });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true }); // kept in memory: a graphics card may round
  context.drawImage(bitmap, 0, 0);
  return toModelInput(context.getImageData(0, 0, bitmap.width, bitmap.height), shape);
}

/**
 * Return a function from these bytes to the model's logits, probabilities and calibrated probabilities, each a
 * Float32Array; a file without a temperature has no calibrated ones. The second argument is the `input.shape`.
 */
export async function openModel(url, [, ...shape]) {
  const session = await ort.InferenceSession.create(url);
  return async (pixels) => {
    const images = new ort.Tensor("uint8", pixels, [1, ...shape]);
    const { logits, probabilities, calibrated } = await session.run({ images });
    return { logits: logits.data, probabilities: probabilities.data, calibrated: calibrated?.data };
  };
}

/** Return what lies at `url`, or throw an error that names it. */
export async function fetched(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} is missing (${response.status})`);
  return response;
}
