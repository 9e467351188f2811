// A page in Chromium: PROGRAM, then on stdin {page, shots: [{width, height, colorScheme, path}]}
// -> on stdout, for each of them, {overflow, asked, said, colour, broken}: by how many pixels it is
// too wide, what it asked of any server, what the console said, its ground, broken rules of axe.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [executablePath] = process.argv.slice(2);
const { page: file, shots } = JSON.parse(readFileSync(0, "utf8"));
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const url = pathToFileURL(file).href;
const browser = await chromium.launch({ executablePath });
const found = [];
for (const { width, height, colorScheme, path } of shots) {
  const viewport = { width, height };
  const context = await browser.newContext({ viewport, colorScheme });
  const page = await context.newPage();
  const asked = [];
  const said = [];
  page.on("request", (request) => request.url() === url || asked.push(request.url()));
  page.on("console", (message) => said.push(message.text()));
  page.on("pageerror", (error) => said.push(String(error)));
  await page.goto(url);
  const overflow = await page.evaluate(
    () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
  );
  const colour = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  if (path) await page.screenshot({ path });
  // Through the protocol, which the page's policy does not bind.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run());
  const broken = violations.map(({ id, nodes }) => `${id}: ${nodes[0].html.slice(0, 200)}`);
  found.push({ overflow, asked, said, colour, broken });
  await context.close();
}
await browser.close();
console.log(JSON.stringify(found));
