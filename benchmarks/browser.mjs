// node browser.mjs CHROMIUM URL IMAGE...: the logits that the page's own code gives for each image, as one JSON document.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename } from "node:path";

const { chromium } = createRequire(new URL("../export/browser/", import.meta.url))("playwright-core");
const [executablePath, url, ...files] = process.argv.slice(2);
const args = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"];
const browser = await chromium.launch({ executablePath, args });
const page = await browser.newPage();
await page.goto(url);
const pictures = files.map((file) => [basename(file), readFileSync(file).toString("base64")]);
const answers = await page.evaluate(async (pictures) => {
  const { openModel, readPicture } = await import("./classifier.js");
  const { input } = await (await fetch("model.json")).json();
  const classify = await openModel("model.onnx", input.shape);
  const found = {};
  for (const [name, content] of pictures) {
    const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
    const pixels = await readPicture(new Blob([bytes], { type: "image/png" }), input.shape);
    found[name] = [...(await classify(pixels)).logits];
  }
  return found;
}, pictures);
await browser.close();
console.log(JSON.stringify(answers));
