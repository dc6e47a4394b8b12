// Chromium, and what is looked at on each page: complaints of the browser, requests to other hosts, dialogs, width, axe.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

export async function open(modules, chromium) {
  const require = createRequire(`${modules}/`);
  const { chromium: engine } = require("playwright-core");
  const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
  const browser = await engine.launch({ executablePath: chromium, args: ["--no-sandbox", "--disable-gpu"] });
  return { browser, axe };
}

// Returns the list that complaints about a page are added to; a status that was asked for by the test is no complaint.
export function watched(page, origin, expected = new Set()) {
  const said = [];
  const known = (text) => [...expected].some((status) => text.includes(`status of ${status}`));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type()) && !known(message.text())) said.push(message.text());
  });
  page.on("pageerror", (error) => said.push(String(error)));
  page.on("request", (request) => request.url().startsWith(origin) || said.push(`asked ${request.url()}`));
  page.on("dialog", async (dialog) => {
    said.push(`dialog ${dialog.message()}`);
    await dialog.dismiss();
  });
  return said;
}

export async function overflow(page, widths) {
  const found = [];
  for (const width of widths) {
    await page.setViewportSize({ width, height: 900 });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (wide > 1) found.push(`${width} px: ${wide} px too wide`);
  }
  return found;
}

export async function serious(page, axe) {
  await page.evaluate(`${axe}; null`);
  const { violations } = await page.evaluate(() => window.axe.run({ resultTypes: ["violations"] }));
  return violations
    .filter((each) => ["serious", "critical"].includes(each.impact))
    .map((each) => `${each.id}: ${each.nodes.map((node) => node.html.slice(0, 120)).join(" | ")}`);
}
