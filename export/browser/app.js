// The page: images come in by drop, paste, file or camera; pixels, bars and error lines go out. What classifies them is
// given to `start`: onnxruntime-web by main.js, `cifarnet demo` by demo.js.

const MOST_BARS = 10;

const at = (id) => document.getElementById(id);
const percent = (fraction) => `${(100 * fraction).toFixed(1)}%`;
export const element = (tag, className, text) => Object.assign(document.createElement(tag), { className, textContent: text });

// The model and its answers

let contract; // what model.json says
let classify; // from a Blob to { pixels, probabilities }: bytes, RGB, row by row, and one number per label
let threshold; // of confidence, below which the page may say that it is not sure
let waiting; // for the model, then for the images that came before
let drawn; // the image that is shown in full: { blob, name, pixels, scores }

/**
 * Open the page. `lead` is its first line; `open` gives `contract` and `classify`, whose errors are shown after the name
 * of the image, or throws an error that says what to do.
 */
export async function start(lead, open) {
  at("lead").textContent = lead;
  listen();
  waiting = load(open);
  await waiting;
}

async function load(open) {
  try {
    ({ contract, classify } = await open());
    describe(contract);
    offerToAbstain(contract.calibration?.abstention);
    drawBars(contract.labels.slice(0, MOST_BARS).map((label) => [label, undefined]));
    at("verdict").textContent = "Waiting for an image";
  } catch (error) {
    at("verdict").textContent = "No model";
    tell([error.message]);
  }
}

function describe({ labels, input, precision, training, calibration, proof }) {
  const [, height, width] = input.shape;
  const parts = [`${labels.length} classes, ${width}×${height} pixels, ${precision}`];
  if (training?.data) parts.push(`trained on ${training.data.name} with ${training.backend}`);
  if (proof) parts.push(`test accuracy ${percent(proof.accuracy)} on ${proof.images.toLocaleString("en")} images`);
  at("about").textContent = parts.join("; ");
  at("answer-title").textContent = calibration ? "Calibrated probabilities" : "Probabilities";
}

function offerToAbstain(abstention) {
  if (!abstention) return;
  threshold = abstention.threshold;
  at("abstain-words").textContent =
    `No answer below ${percent(threshold)} (on validation images: coverage ${percent(abstention.coverage)}, accuracy ` +
    `${percent(abstention.accuracy)})`;
  at("abstaining").hidden = false;
}

/** Classify images, [Blob, name] each, after those that came before: the first is shown in full, all in the gallery. */
function take(images) {
  waiting = waiting.then(() => takeNow(images));
}

async function takeNow(images) {
  if (!classify) return; // and the page says why
  const errors = [];
  let isFirst = true;
  tell(errors);
  for (const [blob, name] of images) {
    try {
      const { pixels, probabilities } = await classify(blob);
      const scores = [...probabilities].map((probability, index) => [contract.labels[index], probability]);
      const answer = { blob, name, pixels, scores: scores.toSorted((one, other) => other[1] - one[1]) };
      addToGallery(answer);
      if (isFirst) draw(answer);
      isFirst = false;
    } catch (error) {
      errors.push(`${name}: ${error.message}`);
      tell(errors);
    }
  }
}

function tell(lines) {
  Object.assign(at("error"), { textContent: lines.join("\n"), hidden: !lines.length });
}

// What is shown

function draw(answer) {
  drawn = answer;
  drawPixels(at("pixels"), answer);
  at("drop").classList.add("filled");
  URL.revokeObjectURL(at("original-picture").src);
  at("original-picture").src = URL.createObjectURL(answer.blob);
  at("original-words").textContent = answer.name;
  at("original").hidden = false;
  drawVerdict();
  drawBars(answer.scores.slice(0, MOST_BARS));
  for (const button of at("gallery").querySelectorAll("button")) button.ariaPressed = String(button.answer === answer);
}

function drawPixels(canvas, { pixels, name }) {
  const [, height, width] = contract.input.shape;
  const image = new ImageData(width, height);
  for (let from = 0, to = 0; from < pixels.length; from += 3, to += 4) {
    image.data.set(pixels.subarray(from, from + 3), to);
    image.data[to + 3] = 255;
  }
  Object.assign(canvas, { width, height }).getContext("2d").putImageData(image, 0, 0);
  canvas.ariaLabel = `The ${width} by ${height} pixels that the model sees of ${name}`;
}

const isSure = ({ scores }) => !at("abstain").checked || scores[0][1] >= threshold;

function drawVerdict() {
  const [label, confidence] = drawn.scores[0];
  const words = isSure(drawn) ? [label, `, ${percent(confidence)}`] : ["Not sure", `, perhaps ${label}, ${percent(confidence)}`];
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

/** Add an image to the row of all, which is visible from the second one on. */
function addToGallery(answer) {
  const [button, canvas, item] = ["button", "canvas", "li"].map((tag) => element(tag, "", ""));
  drawPixels(canvas, answer);
  Object.assign(button, { type: "button", title: answer.name, answer });
  button.append(canvas, element("span", "", ""));
  button.addEventListener("click", () => draw(answer));
  item.append(button);
  at("gallery").append(item);
  drawCaption(button);
  at("others").hidden = at("gallery").children.length < 2;
}

function drawCaption({ answer, lastChild }) {
  const [label, confidence] = answer.scores[0];
  lastChild.textContent = `${isSure(answer) ? label : "Not sure"} ${percent(confidence)}`;
}

at("abstain").addEventListener("change", () => {
  if (drawn) drawVerdict();
  at("gallery").querySelectorAll("button").forEach(drawCaption);
});

// Ways in

function listen() {
  at("choose").addEventListener("click", () => at("file").click());
  at("file").addEventListener("change", ({ target }) => {
    take([...target.files].map((file) => [file, file.name]));
    target.value = ""; // so that the same file can be chosen again
  });
  document.addEventListener("paste", ({ clipboardData }) => takeTransferred(clipboardData, "the pasted image"));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    at("drop").classList.add("hovered");
  });
  document.addEventListener("dragleave", () => at("drop").classList.remove("hovered"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    at("drop").classList.remove("hovered");
    takeTransferred(event.dataTransfer, "what was dropped");
  });
  at("camera").addEventListener("click", openCamera);
  at("viewfinder").addEventListener("close", closeCamera);
}

function takeTransferred({ files }, name) {
  if (files.length) take([...files].map((file) => [file, file.name || name]));
  else tell([`${name} holds no file: save the image first, or copy the image itself`]);
}

async function openCamera() {
  try {
    at("video").srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    at("viewfinder").returnValue = "";
    at("viewfinder").showModal();
  } catch (error) {
    tell([`no camera (${error.message}): allow it for this page, or choose a file`]);
  }
}

function closeCamera() {
  const video = at("video");
  if (at("viewfinder").returnValue === "shoot") shoot(video);
  for (const track of video.srcObject.getTracks()) track.stop();
}

function shoot(video) {
  const canvas = Object.assign(document.createElement("canvas"), { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => take([[blob, "your photo"]])); // PNG, without loss
}
