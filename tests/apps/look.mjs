// Look at pages as readers do and print what was seen, as one JSON document.
//
// node look.mjs CHROMIUM PAGE...: each page from its file, at a phone's width and a desk's, light, dark and on paper.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const { chromium } = createRequire(new URL("../../export/browser/", import.meta.url))("playwright-core");
const [executablePath, ...files] = process.argv.slice(2);
const args = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"];
const browser = await chromium.launch({ executablePath, args });
const looks = { phone: [360, "light"], "phone, dark": [360, "dark"], desk: [1280, "light"], "desk, dark": [1280, "dark"] };

/** What the page is like: runs inside it. */
const seen = () => {
  // A colour in any notation, as the browser paints it.
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const paint = canvas.getContext("2d", { willReadFrequently: true });
  const known = new Map();
  const painted = (color) => {
    if (!known.has(color)) {
      paint.clearRect(0, 0, 1, 1);
      paint.fillStyle = color;
      paint.fillRect(0, 0, 1, 1);
      known.set(color, [...paint.getImageData(0, 0, 1, 1).data]);
    }
    return known.get(color);
  };
  const luminance = ([...rgb]) => {
    const [r, g, b] = rgb.slice(0, 3).map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = painted(getComputedStyle(at).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255, 255];
  };
  const contrast = (element) => {
    const style = getComputedStyle(element);
    const text = painted(element.closest("svg") ? style.fill : style.color);
    const [low, high] = [luminance(text), luminance(ground(element))].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const hasText = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const texts = [...document.querySelectorAll("body *")].filter((element) => hasText(element));
  const contrasts = texts.map((element) => [contrast(element), element.textContent.trim().slice(0, 40)]);
  const sizes = [...document.querySelectorAll("section, nav, header, footer, main")].map((element) => element.getBoundingClientRect());
  return {
    width: innerWidth,
    scrollWidth: document.documentElement.scrollWidth,
    beyond: sizes.filter((box) => box.right > innerWidth + 0.5 || box.left < -0.5).length,
    hidden: sizes.filter((box) => box.width < 10 || box.height < 10).length,
    sections: document.querySelectorAll("main > section").length,
    faintest: contrasts.sort((a, b) => a[0] - b[0])[0],
    ground: painted(getComputedStyle(document.documentElement).backgroundColor).slice(0, 3),
    unnamed: document.querySelectorAll("img:not([alt]), svg:not([aria-label]), section:not([aria-labelledby])").length,
    images: [...document.images].filter((image) => !image.naturalWidth).length,
  };
};

const found = {};
for (const file of files) {
  const facts = (found[file] = { requested: [], complaints: [], looks: {} });
  for (const [name, [width, colorScheme]] of Object.entries(looks)) {
    const page = await browser.newPage({ viewport: { width, height: 800 }, colorScheme });
    page.on("request", (request) => facts.requested.push(request.url()));
    page.on("console", (message) => facts.complaints.push(message.text()));
    await page.goto(pathToFileURL(file).href);
    facts.looks[name] = await page.evaluate(seen);
    if (name === "desk") {
      await page.click("text=Dark");
      facts.chosen = (await page.evaluate(seen)).ground;
      await page.emulateMedia({ media: "print" });
      facts.paper = await page.evaluate(seen);
    }
    await page.close();
  }
}
await browser.close();
console.log(JSON.stringify(found));
