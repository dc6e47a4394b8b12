// Visits pages of a console in Chromium, and says what was wrong with each; run by test_browser.py with Node.
import { mkdirSync } from "node:fs";
import { open, overflow, serious, watched } from "./chromium.mjs";

const [modules, chromium, origin, given] = process.argv.slice(2);
const { pages, shots, widths, schemes = ["light", "dark"], height = 900 } = JSON.parse(given);

const { browser, axe } = await open(modules, chromium);
if (shots) mkdirSync(shots, { recursive: true });
const found = [];
for (const scheme of schemes) {
  const context = await browser.newContext({ colorScheme: scheme, viewport: { width: widths[0], height } });
  const page = await context.newPage();
  const said = watched(page, origin);
  for (const path of pages) {
    said.length = 0;
    await page.setViewportSize({ width: widths[0], height });
    const answer = await page.goto(origin + path, { waitUntil: "load" });
    await page.waitForFunction(() => !document.querySelector("[hx-trigger=load]"), null, { timeout: 20000 });
    const timing = Number(/dur=([\d.]+)/.exec(answer.headers()["server-timing"] ?? "dur=0")[1]);
    const name = path.replace(/[^a-z0-9]+/gi, "-").replace(/^-|-$/g, "") || "overview";
    const shot = `${name}-${scheme}-${widths[0]}.png`;
    if (shots) {
      for (const width of widths) {
        await page.setViewportSize({ width, height });
        await page.screenshot({ path: `${shots}/${name}-${scheme}-${width}.png` });
      }
    }
    const wide = await overflow(page, widths);
    const complaints = [...said];
    const bad = await serious(page, axe);
    found.push({ path, scheme, status: answer.status(), timing, shot, complaints, overflow: wide, serious: bad });
  }
  await context.close();
}
await browser.close();
process.stdout.write(JSON.stringify(found));
