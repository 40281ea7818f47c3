// The page with onnxruntime-web: the model runs in this browser, which is compared with the golden images.

import { start } from "./app.js";
import { fetched, openModel, readPicture } from "./classifier.js";
import { wearBadge } from "./parity.js";

async function open() {
  try {
    const contract = await (await fetched("model.json")).json();
    const run = await openModel("model.onnx", contract.input.shape);
    return { contract, classify: (blob) => classify(run, blob, contract.input.shape) };
  } catch (error) {
    throw new Error(`${error.message}: put model.onnx and model.json beside this page`);
  }
}

async function classify(run, blob, shape) {
  const pixels = await readPicture(blob, shape).catch(() => {
    throw new Error("this browser cannot read it: choose a PNG, JPEG, GIF or WebP file");
  });
  const { calibrated, probabilities } = await run(pixels);
  return { pixels, probabilities: calibrated ?? probabilities };
}

/** Put away everything that the page loaded, for worker.js to find where there is no network. */
async function keep() {
  if (!("serviceWorker" in navigator)) return; // a page that is not served over https, nor from this machine
  await navigator.serviceWorker.register("worker.js");
  const loaded = performance.getEntriesByType("resource").map(({ name }) => name);
  const own = [location.href, ...loaded].filter((url) => url.startsWith(location.origin));
  await (await caches.open("cifarnet")).addAll([...new Set(own)]);
  document.getElementById("offline").textContent = "Works offline from now on.";
}

await Promise.all([start("Drop, paste or choose images. They stay in this browser.", open), wearBadge("../golden/")]);
await keep();
