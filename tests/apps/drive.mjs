// Drive the page in a real browser and print what it shows, as one JSON document on the last line.
//
// node drive.mjs CHROMIUM URL GOLDEN demo|web LARGER. "demo" is the page of `cifarnet demo`, LARGER the same page with a
// model of larger images. "web" prints "loaded" when the page
// needs its server no more, and goes on when a line arrives on stdin: by then the server is gone.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { chromium } = createRequire(new URL("../../export/browser/", import.meta.url))("playwright-core");
const [executablePath, url, golden, kind, larger] = process.argv.slice(2);
const { images } = JSON.parse(readFileSync(`${golden}/golden.json`));
const types = { png: "image/png", jpg: "image/jpeg", gif: "image/gif", webp: "image/webp" };

const browser = await chromium.launch({
  executablePath,
  args: [
    "--no-sandbox", // root may not have one
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
  ],
});
const context = await browser.newContext();
const page = await context.newPage();
const facts = { requested: [] };
const complaints = [];
page.on("request", (request) => facts.requested.push(request.url()));
page.on("pageerror", (error) => complaints.push(String(error)));
page.on("console", (message) => message.type() === "error" && !message.text().includes("422 (") && complaints.push(message.text()));

const badge = async (page) => {
  await page.locator("#badge:not([data-state=running])").waitFor();
  return page.evaluate(() => ({
    state: document.getElementById("badge").dataset.state,
    text: document.getElementById("badge-text").textContent,
    rows: [...document.querySelectorAll("#badge-rows tr")].map((row) =>
      [...row.cells].map((cell) => cell.firstChild.textContent),
    ),
  }));
};

/** Do something that brings a picture in, wait until it is shown, and return what is shown. */
const shown = async (bringIn) => {
  await page.evaluate(() => {
    for (const id of ["verdict", "bars"]) document.getElementById(id).replaceChildren();
    document.getElementById("error").hidden = true;
  });
  await bringIn();
  // Not the bars: while the model is being opened, the page draws empty ones.
  await page.locator("#verdict strong, #error:not([hidden])").first().waitFor();
  return page.evaluate(() => ({
    name: document.getElementById("original-words").textContent,
    error: document.getElementById("error").hidden ? "" : document.getElementById("error").textContent,
    verdict: document.getElementById("verdict").textContent,
    pixels: [...document.getElementById("pixels").getContext("2d").getImageData(0, 0, 32, 32).data],
    bars: [...document.querySelectorAll("#bars li")].map((row) => [...row.children].map((cell) => cell.textContent)),
    widths: [...document.querySelectorAll("#bars .bar")].map((bar) => Number(bar.style.getPropertyValue("--share"))),
  }));
};

const fileOf = ({ file }) => `${golden}/${file}`;
const handedOver = (files, kind, field) => {
  const contents = files.map(({ file }) => [readFileSync(fileOf({ file })).toString("base64"), file, types[file.split(".").at(-1)]]);
  return page.evaluate(([contents, kind, field]) => {
    const transfer = new DataTransfer();
    for (const [content, name, type] of contents) {
      const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
      transfer.items.add(new File([bytes], name, { type }));
    }
    const Kind = kind === "paste" ? ClipboardEvent : DragEvent;
    document.body.dispatchEvent(new Kind(kind, { [field]: transfer, bubbles: true, cancelable: true }));
  }, [contents, kind, field]);
};

/** The page with two golden answers spoilt on the way, a logit and an image, and then without its server. */
async function web() {
  const spoilt = await browser.newContext({ serviceWorkers: "block" });
  await spoilt.route("**/golden.json", async (route) => {
    const document = JSON.parse(readFileSync(`${golden}/golden.json`));
    document.images[0].logits[0] += 1e-3;
    await route.fulfill({ json: document });
  });
  await spoilt.route(`**/${images[1].file}`, (route) => route.fulfill({ path: fileOf(images[2]) }));
  await spoilt.route("**/model.json", async (route) => {
    const contract = JSON.parse(readFileSync(`${golden}/model.json`));
    delete contract.calibration; // as in a file of before there was one
    await route.fulfill({ json: contract });
  });
  const spoiltPage = await spoilt.newPage();
  await spoiltPage.goto(url);
  facts.spoilt = await badge(spoiltPage);
  await spoiltPage.locator("#about:not(:empty)").waitFor();
  facts.spoilt.offersToAbstain = await spoiltPage.locator("#abstaining").isVisible();

  console.log("loaded");
  await new Promise((resolve, reject) => {
    process.stdin.once("data", resolve);
    process.stdin.once("end", () => reject(new Error("stdin ended; expected a line once the server is gone")));
  });
  await page.reload();
  facts.offline = { badge: await badge(page), chosen: await shown(() => page.setInputFiles("#file", fileOf(images[0]))) };
}

await page.goto(url);
if (kind === "web") facts.badge = await badge(page);
facts.badgeIsVisible = await page.locator("#badge").isVisible();
facts.chosen = {};
for (const image of images) facts.chosen[image.file] = await shown(() => page.setInputFiles("#file", fileOf(image)));
const verdict = () => page.locator("#verdict").textContent();
facts.abstaining = { words: await page.locator("#abstain-words").textContent() };
await page.locator("#abstain").check();
facts.abstaining.sure = (await shown(() => page.setInputFiles("#file", fileOf(images[0])))).verdict;
facts.abstaining.unsure = (await shown(() => page.setInputFiles("#file", fileOf(images[1])))).verdict;
await page.locator("#abstain").uncheck();
facts.abstaining.answered = await verdict();
const gallery = page.locator("#gallery button");
const before = await gallery.count();
facts.dropped = await shown(async () => {
  await handedOver([images[1], { file: "model.json" }, images[3]], "drop", "dataTransfer");
  await gallery.nth(before + 1).waitFor();
});
facts.gallery = { before, captions: (await gallery.allTextContents()).slice(before) };
facts.clicked = await shown(() => gallery.nth(0).click());
facts.gallery.pressed = await page.locator("#gallery button[aria-pressed=true]").count();
facts.pasted = await shown(() => handedOver([images[2]], "paste", "clipboardData"));
facts.taken = await shown(async () => {
  await page.click("#camera");
  await page.waitForFunction(() => document.getElementById("video").videoWidth > 0);
  await page.click("#shoot");
});
facts.refused = await shown(() => page.setInputFiles("#file", `${golden}/model.json`));

if (kind === "web") await page.locator("#offline:not(:empty)").waitFor();
await page.setViewportSize({ width: 320, height: 640 });
facts.overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
facts.complaints = [...complaints]; // later ones may be about the server that is gone
const other = await context.newPage();
await other.goto(larger);
await other.setInputFiles("#file", fileOf(images[0]));
await other.locator("#verdict strong").waitFor();
const [about, title] = await Promise.all(["#about", "#answer-title"].map((id) => other.locator(id).textContent()));
const canvas = await other.evaluate(() => {
  const { width, height } = document.getElementById("pixels");
  const { data } = document.getElementById("pixels").getContext("2d").getImageData(0, 0, width, height);
  return { width, height, data: [...data] };
});
facts.larger = { about, title, bars: await other.locator("#bars li").count(), ...canvas };
if (kind === "web") await web();
await browser.close();
console.log(JSON.stringify(facts));
process.stdin.destroy(); // nothing is left to wait for; exiting here would cut the line off
