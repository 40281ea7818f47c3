// The page of `cifarnet demo`, which serves this file in the place of main.js: the server classifies.

import { start } from "./app.js";

/** Return what the server made of an image file, or throw an error with the line that it says. */
async function classify(blob) {
  const body = await blob.arrayBuffer().catch((error) => {
    throw new Error(`it cannot be read (${error.message}): choose an image file`);
  });
  const response = await reach("/classify", { method: "POST", body });
  const { pixels, probabilities } = await response.json();
  return { pixels: Uint8Array.from(atob(pixels), (character) => character.charCodeAt(0)), probabilities };
}

async function reach(path, options) {
  const response = await fetch(path, options).catch((error) => {
    throw new Error(`cifarnet demo does not answer (${error.message}): start it again`);
  });
  if (!response.ok) throw new Error(await response.text());
  return response;
}

await start("Drop, paste or choose images. They stay on this computer.", async () => ({
  contract: await (await reach("/model.json")).json(),
  classify,
}));
