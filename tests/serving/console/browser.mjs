// Visits pages of a console in Chromium, and says what was wrong with each; run by test_browser.py with Node.
import { createRequire } from "node:module";
import { mkdirSync, readFileSync } from "node:fs";

const [modules, chromium, origin, given] = process.argv.slice(2);
const { pages, shots, widths } = JSON.parse(given);
const require = createRequire(`${modules}/`);
const { chromium: engine } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const browser = await engine.launch({ executablePath: chromium, args: ["--no-sandbox", "--disable-gpu"] });
if (shots) mkdirSync(shots, { recursive: true });
const found = [];
for (const scheme of ["light", "dark"]) {
  const context = await browser.newContext({ colorScheme: scheme, viewport: { width: widths[0], height: 900 } });
  const page = await context.newPage();
  let said = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && said.push(message.text()));
  page.on("pageerror", (error) => said.push(String(error)));
  page.on("request", (request) => request.url().startsWith(origin) || said.push(`asked ${request.url()}`));
  for (const path of pages) {
    said = [];
    await page.setViewportSize({ width: widths[0], height: 900 });
    const answer = await page.goto(origin + path, { waitUntil: "load" });
    const overflow = [];
    for (const width of widths) {
      await page.setViewportSize({ width, height: 900 });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      if (wide > 1) overflow.push(`${width} px: ${wide} px too wide`);
      if (shots) {
        const name = path.replace(/[^a-z0-9]+/gi, "-").replace(/^-|-$/g, "") || "overview";
        await page.screenshot({ path: `${shots}/${name}-${scheme}-${width}.png` });
      }
    }
    const complaints = [...said];
    await page.evaluate(`${axe}; null`);
    const { violations } = await page.evaluate(() => window.axe.run({ resultTypes: ["violations"] }));
    const serious = violations
      .filter((each) => ["serious", "critical"].includes(each.impact))
      .map((each) => `${each.id}: ${each.nodes.map((node) => node.html.slice(0, 120)).join(" | ")}`);
    found.push({ path, scheme, status: answer.status(), complaints, overflow, serious });
  }
  await context.close();
}
await browser.close();
process.stdout.write(JSON.stringify(found));
