// The page: pictures come in by drop, paste, file or camera; pixels, bars and the badge go out.

import { fetched, openModel, readPicture } from "./classifier.js";
import { checkGolden } from "./parity.js";

const GOLDEN = "../golden/";
const MOST_BARS = 10;

const at = (id) => document.getElementById(id);
const percent = (fraction) => `${(100 * fraction).toFixed(1)}%`;
const element = (tag, className, text) => Object.assign(document.createElement(tag), { className, textContent: text });

// The model and its answers

async function open() {
  try {
    const [contract, classify] = [await (await fetched("model.json")).json(), await openModel("model.onnx")];
    describe(contract);
    offerToAbstain(contract.calibration?.abstention);
    drawBars(contract.labels.slice(0, MOST_BARS).map((label) => [label, undefined]));
    at("verdict").textContent = "Waiting for a picture";
    return { labels: contract.labels, classify };
  } catch (error) {
    at("verdict").textContent = "No model";
    throw new Error(`${error.message}: start \`cifarnet demo\`, or put model.onnx and model.json beside this page`);
  }
}

function describe({ labels, precision, training, proof }) {
  const trained = `${labels.length} classes, ${precision}, trained on ${training.data.name} with ${training.backend}`;
  const proven = proof ? `; right on ${percent(proof.accuracy)} of ${proof.images.toLocaleString("en")} test images` : "";
  at("about").textContent = trained + proven;
}

let threshold; // of confidence, below which the page may say that it is not sure
let drawn; // labels and confidences of the picture that is shown, the best first

function offerToAbstain(abstention) {
  if (!abstention) return;
  threshold = abstention.threshold;
  at("abstain-words").textContent =
    `No answer below ${percent(threshold)} (on held-out images ${percent(abstention.coverage)} are above, and of ` +
    `those ${percent(abstention.accuracy)} are right)`;
  at("abstaining").hidden = false;
}

at("abstain").addEventListener("change", () => drawn && drawVerdict());

const opened = open();
opened.catch(tell);

let latest = 0; // a picture that is ready late must not replace a later one

/** Show a picture, what the model sees of it and what it says. */
async function show(blob, name) {
  const turn = ++latest;
  at("error").hidden = true;
  try {
    const { labels, classify } = await opened;
    const pixels = await readPicture(blob).catch(() => {
      throw new Error(`${name} is no picture that this browser reads: choose a PNG, JPEG, GIF or WebP file`);
    });
    const { calibrated, probabilities } = await classify(pixels);
    if (turn !== latest) return;
    drawOriginal(blob, name);
    drawPixels(pixels, name);
    drawAnswer([...(calibrated ?? probabilities)].map((probability, index) => [labels[index], probability]));
  } catch (error) {
    tell(error);
  }
}

function tell(error) {
  Object.assign(at("error"), { textContent: error.message, hidden: false });
}

function drawOriginal(blob, name) {
  URL.revokeObjectURL(at("original-picture").src);
  at("original-picture").src = URL.createObjectURL(blob);
  at("original-words").textContent = name;
  at("original").hidden = false;
}

function drawPixels(pixels, name) {
  const image = new ImageData(32, 32);
  for (let index = 0; index < 32 * 32; index++) image.data.set([...pixels.slice(3 * index, 3 * index + 3), 255], 4 * index);
  at("pixels").getContext("2d").putImageData(image, 0, 0);
  at("pixels").ariaLabel = `The 32 by 32 pixels that the model sees of ${name}`;
  at("drop").classList.add("filled");
}

function drawAnswer(scores) {
  drawn = scores.toSorted((one, other) => other[1] - one[1]);
  drawVerdict();
  drawBars(drawn.slice(0, MOST_BARS));
}

function drawVerdict() {
  const [label, confidence] = drawn[0];
  const isSure = !at("abstain").checked || confidence >= threshold;
  const words = isSure ? [label, `, ${percent(confidence)}`] : ["Not sure", `, perhaps ${label}, ${percent(confidence)}`];
  at("verdict").replaceChildren(element("strong", "", words[0]), words[1]);
}

function drawBars(scores) {
  at("bars").replaceChildren(
    ...scores.map(([label, probability]) => {
      const row = element("li", "", "");
      const bar = element("span", "bar", "");
      bar.style.setProperty("--share", probability ?? 0);
      row.append(element("span", "label", label), bar, element("span", "percent", probability === undefined ? "" : percent(probability)));
      return row;
    }),
  );
}

// Ways in

at("choose").addEventListener("click", () => at("file").click());
at("file").addEventListener("change", ({ target }) => {
  if (target.files.length) show(target.files[0], target.files[0].name);
  target.value = ""; // so that the same file can be chosen again
});

document.addEventListener("paste", ({ clipboardData }) => take(clipboardData, "the pasted picture"));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  at("drop").classList.add("hovered");
});
document.addEventListener("dragleave", () => at("drop").classList.remove("hovered"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("hovered");
  take(event.dataTransfer, "what was dropped");
});

function take(transfer, name) {
  const [file] = transfer.files;
  if (file) show(file, file.name || name);
  else tell(new Error(`${name} holds no file: save the picture first, or copy the picture itself`));
}

at("camera").addEventListener("click", async () => {
  try {
    at("video").srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    at("viewfinder").returnValue = "";
    at("viewfinder").showModal();
  } catch (error) {
    tell(new Error(`no camera (${error.message}): allow it for this page, or choose a file`));
  }
});
at("viewfinder").addEventListener("close", () => {
  const video = at("video");
  if (at("viewfinder").returnValue === "shoot") shoot(video);
  for (const track of video.srcObject.getTracks()) track.stop();
});

function shoot(video) {
  const canvas = Object.assign(document.createElement("canvas"), { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => show(blob, "your picture")); // PNG, without loss
}

// The badge

async function wearBadge() {
  try {
    const rows = await checkGolden(GOLDEN);
    const agreeing = rows.filter((row) => row.agrees).length;
    const worst = Math.max(...rows.map((row) => row.difference)).toExponential(0);
    at("badge").dataset.state = agreeing === rows.length ? "agrees" : "differs";
    at("badge-text").textContent = `golden images: ${agreeing} of ${rows.length}`;
    at("badge-words").textContent =
      `This browser gives the right answer to ${agreeing} of ${rows.length} golden images: every byte of the input ` +
      `right, no logit off by more than rounding (largest difference ${worst}).`;
    at("badge-rows").replaceChildren(...rows.map(badgeRow));
  } catch (error) {
    at("badge").dataset.state = "differs";
    at("badge-text").textContent = "golden images not checked";
    at("badge-words").textContent = error.message;
  }
}

function badgeRow({ file, what, wrongBytes, difference, agrees }) {
  const row = element("tr", agrees ? "agrees" : "differs", "");
  const name = element("td", "", file.replace("images/", ""));
  name.append(element("small", "", what));
  row.append(name, element("td", "", wrongBytes), element("td", "", difference.toExponential(1)));
  return row;
}

// Without a network: put away everything that the page loaded, for worker.js to find

async function keep() {
  if (!("serviceWorker" in navigator)) return; // a page that is not served over https, nor from this machine
  await navigator.serviceWorker.register("worker.js");
  const loaded = performance.getEntriesByType("resource").map(({ name }) => name);
  const own = [location.href, ...loaded].filter((url) => url.startsWith(location.origin));
  await (await caches.open("cifarnet")).addAll([...new Set(own)]);
  at("offline").textContent = "Works offline from now on.";
}

await Promise.allSettled([opened, wearBadge()]);
await keep();
