// The page of examples/web in Chromium: PROGRAM, URL, then on stdin {rows: [{text, limit}],
// screenshot} -> on stdout {error, rows: [{completion, grown, tokens, ended, error}], elsewhere}.
// `grown` is what stood there after each token, `elsewhere` what was asked of other servers.
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const [executablePath, url] = process.argv.slice(2);
const { rows, screenshot } = JSON.parse(readFileSync(0, "utf8"));
const browser = await chromium.launch({ executablePath });
const page = await browser.newPage({ viewport: { width: 900, height: 700 } });
const elsewhere = [];
page.on("request", (request) => {
  if (!request.url().startsWith(url) && !/^(blob|data):/.test(request.url())) {
    elsewhere.push(request.url());
  }
});
const alert = page.getByRole("alert");
const error = async () => ((await alert.count()) ? alert.textContent() : null);
const completion = page.locator("#completion");
const ready = page.locator("#completion[aria-busy=false]");
const figure = (id) => page.locator(id).textContent();

await page.goto(url);
await page.locator("#progress").waitFor({ state: "detached" });
const found = { error: await error(), rows: [], elsewhere };
await page.evaluate(() => {
  const completion = document.getElementById("completion");
  // A message comes when the page has its turn: if it has none between tokens, nothing grows.
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => window.grown.push(completion.textContent);
  new MutationObserver(() => port2.postMessage(null)).observe(completion, { childList: true });
});
for (const { text, limit } of rows) {
  await page.evaluate(() => (window.grown = []));
  await page.getByLabel("Prompt").fill(text);
  await page.getByLabel("New tokens").fill(String(limit));
  await page.getByRole("button", { name: "Complete" }).click();
  await ready.waitFor({ state: "attached" });
  found.rows.push({
    completion: await completion.textContent(),
    grown: await page.evaluate(() => window.grown),
    tokens: await figure("#tokens"),
    ended: await figure("#reason"),
    error: await error(),
  });
}
if (screenshot) await page.screenshot({ path: screenshot, fullPage: true });
await browser.close();
console.log(JSON.stringify(found));
