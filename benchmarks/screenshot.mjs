// node screenshot.mjs CHROMIUM PAGE PICTURE WIDTH HEIGHT SCHEME: a picture of a page from a file, HEIGHT 0 for all of it.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const { chromium } = createRequire(new URL("../export/browser/", import.meta.url))("playwright-core");
const [executablePath, file, picture, width, height, colorScheme] = process.argv.slice(2);
const args = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"];
const browser = await chromium.launch({ executablePath, args });
const viewport = { width: Number(width), height: Number(height) || 800 };
const page = await browser.newPage({ viewport, colorScheme });
await page.goto(pathToFileURL(file).href);
await page.screenshot({ path: picture, fullPage: height === "0" });
await browser.close();
