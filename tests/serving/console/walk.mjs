// Walks through a console in Chromium as a person with one role, pressing every button; run by test_walk.py with Node.
// Every page on the way is looked at; what was found, and what was seen, is written as JSON.
import { open, overflow, serious, watched } from "./chromium.mjs";

const [modules, chromium, origin, given] = process.argv.slice(2);
const { walk, token, markup, pages } = JSON.parse(given);
const { browser, axe } = await open(modules, chromium);
const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
const page = await context.newPage();
page.setDefaultTimeout(20000);
const expected = new Set();
const said = watched(page, origin, expected);
const wrong = [];
const seen = {};
const pressed = [];
const times = {};

page.on("response", (answer) => {
  const timing = answer.headers()["server-timing"];
  if (timing) times[new URL(answer.url()).pathname] = Number(/dur=([\d.]+)/.exec(timing)[1]);
  if (answer.status() >= 400 && !expected.has(answer.status())) wrong.push(`${answer.status()} ${answer.url()}`);
});

const main = () => page.locator("main");
const words = async () => (await main().innerText()).replace(/\s+/g, " ");
const buttons = () => page.locator("main button:visible, main a.button:visible").allInnerTexts();

async function look() {
  const bad = [...(await serious(page, axe)), ...(await overflow(page, [360, 1280])), ...said.splice(0)];
  if (bad.length) wrong.push({ page: page.url(), bad });
}

async function go(path) {
  await page.goto(origin + path, { waitUntil: "load" });
  await reasons();
  await look();
}

// What a page loads after itself.
async function reasons() {
  await page.waitForFunction(() => !document.querySelector("[hx-trigger=load]"));
}

async function press(name, within = main()) {
  pressed.push(name);
  const there = page.url();
  await Promise.all([
    page.waitForEvent("load"),
    within.locator("button:visible, a:visible").filter({ hasText: name }).first().click(),
  ]);
  await reasons();
  await look();
  return there;
}

async function refused(path) {
  expected.add(403);
  const answer = await page.goto(origin + path);
  said.splice(0);
  expected.delete(403);
  return answer.status();
}

const told = async () => (await page.locator(".told").allInnerTexts()).join(" ");
const row = (text) => page.locator("main tr").filter({ hasText: text }).first();

async function logIn(path = "/") {
  expected.add(401);
  await page.goto(origin + path);
  await look();
  await page.getByLabel("Token").fill("rf_wrong");
  await press("Log in");
  seen.refused = await words();
  await page.getByLabel("Token").fill(token);
  await press("Log in");
  said.splice(0);
  expected.delete(401);
  seen.after = page.url().slice(origin.length);
}

// Presses every button of every page once; a change is asked for, and answered by no.
async function pressEverything() {
  const done = new Set();
  for (const path of pages) {
    await page.goto(origin + path, { waitUntil: "load" });
    await reasons();
    const found = page.locator("main button:visible:enabled, main a.button:visible, main summary:visible");
    for (let place = 0; place < (await found.count()); place++) {
      const each = found.nth(place);
      const key = await each.evaluate((one) => `${one.form?.getAttribute("action") ?? one.tagName} ${one.innerText}`);
      if (done.has(key)) continue;
      done.add(key);
      pressed.push(key);
      if (await each.evaluate((one) => one.tagName === "SUMMARY")) {
        await each.click();
        await look();
        continue;
      }
      const local = await each.getAttribute("hx-get");
      const invalid = await each.evaluate((one) => one.form !== null && one.form !== undefined && !one.form.checkValidity());
      if (invalid) continue; // the browser asks for what is missing
      if (local) {
        await each.click();
        await page.waitForSelector("#audience table");
        await look();
      } else {
        await Promise.all([page.waitForEvent("load"), each.click()]);
        await reasons();
        await look();
        const no = page.getByRole("link", { name: "No, go back" });
        if (await no.count()) await Promise.all([page.waitForEvent("load"), no.click()]);
      }
      await page.goto(origin + path, { waitUntil: "load" });
      await reasons();
    }
  }
}

const walks = {
  async read() {
    await logIn("/catalog?q=movie");
    seen.navigation = await page.locator("nav a").allInnerTexts();
    for (const name of seen.navigation) {
      await press(name, page.locator("nav"));
      seen[`heading ${name}`] = await page.locator("h1").innerText();
    }
    await go("/catalog");
    await page.getByLabel("Search by id or words").pressSequentially("movie 17");
    await page.waitForFunction(() => document.querySelectorAll("#found tbody tr").length === 1);
    seen.address = page.url().slice(origin.length);
    await page.locator("#found tbody a").first().click();
    await page.waitForURL("**/item?id=17");
    await look();
    seen.card = await buttons();
    await page.getByText("Find out").click();
    await page.waitForSelector("#audience table");
    await look();
    seen.audience = (await page.locator("#audience").innerText()).replace(/\s+/g, " ");
    await press("What does somebody get who took this?");
    await press("took this", page.locator("#answers"));
    seen.session = await page.locator("a", { hasText: "remove" }).count();
    await press("remove");
    await page.getByLabel("User", { exact: true }).fill("30");
    await press("Ask");
    seen.reasons = await page.locator("#answers td .soft").count();
    await page.locator("input[name=drop]").first().check();
    await page.locator("input[name='set:user_profile__occupation']").fill("student");
    await page.locator("select[name=rerank2]").selectOption("exact");
    await press("Compare");
    seen.sides = await page.locator("#answers section h2").allInnerTexts();
    await page.locator("select[name=bundle]").selectOption("next");
    await press("Compare");
    seen.other = await words();
    seen.forbidden = [await refused("/audit"), await refused("/item/edit?id=17"), await refused("/item/new")];
    await go("/deployments");
    seen.deployments = await buttons();
    await go("/policies");
    seen.policies = await buttons();
    await pressEverything();
    expected.add(401);
    await press("Log out", page.locator("header"));
    seen.out = await words();
  },

  async write() {
    await logIn();
    await go("/catalog");
    await press("Add an item");
    await page.locator("input[name=id]").fill("9100");
    const title = page.locator("input[name$=__title]");
    await title.fill(markup);
    await page.locator("input[name$=release_year]").fill("soon");
    await press("Go on");
    seen.problem = await page.locator(".problem").innerText();
    seen.disabled = await page.getByRole("button", { name: "Save" }).isDisabled();
    await press("Edit it");
    seen.kept = [await page.locator("input[name=id]").inputValue(), await title.inputValue()];
    await page.locator("input[name$=release_year]").fill("1999");
    await press("Go on");
    await press("Save");
    seen.added = await told();
    seen.title = await page.locator("h1").innerText();
    await press("Change");
    await page.locator("input[name$=release_year]").fill("1998");
    await press("Go on");
    await press("No, go back");
    await page.locator("input[name$=release_year]").fill("1997");
    await press("Go on");
    await press("Save");
    seen.changed = await told();
    for (const path of [...pages, "/item?id=9100", "/item/edit?id=9100", "/item/audience?id=9100", "/user?session=9100", "/catalog?q=9100", "/user?anonymous=yes&find=9100"]) {
      await go(path);
    }
    await go("/policies");
    const policy = "default: home\nplacements:\n  home: {}\n  cart: {}\n";
    await page.locator("textarea").fill("placements: [");
    await page.getByLabel("Note").fill(markup);
    await press("Check and apply");
    seen.refusedPolicy = await page.getByRole("button", { name: "Apply" }).isDisabled();
    await press("Edit it");
    seen.text = await page.locator("textarea").inputValue();
    await page.locator("textarea").fill(policy);
    await press("Check and apply");
    await press("Apply");
    seen.applied = await told();
    await page.locator("textarea").fill(policy.replace("cart", "basket"));
    await press("Check and apply");
    await press("Apply");
    await press("Apply again");
    await press("Apply");
    seen.again = await told();
    await go("/item?id=9100");
    await press("Delete");
    seen.question = await page.locator("h1").innerText();
    await press("No, go back");
    await pressEverything();
    await go("/item?id=9100");
    await press("Delete");
    await press("Delete");
    seen.deleted = await told();
    await go("/deployments");
    seen.deployments = await buttons();
    seen.forbidden = [await refused("/audit")];
  },

  async admin() {
    await logIn("/deployments");
    await row("next").getByLabel("Split").fill("101");
    await press("Split", row("next"));
    seen.tooMuch = await page.getByRole("button", { name: "Split" }).isDisabled();
    await press("No, go back");
    await row("next").getByLabel("Split").fill("25");
    await press("Split", row("next"));
    seen.checks = await words();
    await press("Split");
    seen.split = await told();
    await press("Shadow", row("next"));
    await press("Start the shadow");
    seen.shadow = await told();
    await press("End the shadow");
    await press("Withdraw");
    seen.unshadowed = await told();
    await press("Withdraw");
    await press("Withdraw");
    seen.withdrawn = await told();
    await press("Promote", row("next"));
    await press("No, go back");
    await press("Promote", row("next"));
    await press("Promote");
    seen.promoted = await told();
    await press("Roll back to");
    seen.rollback = await words();
    await press("Roll back");
    seen.back = await told();
    await pressEverything();
    await go("/audit");
    seen.audit = await words();
  },

  async first() {
    await logIn();
    for (const path of pages) {
      await page.goto(origin + path, { waitUntil: "load" });
      await look();
    }
    await press("Deployments", page.locator("nav"));
    seen.empty = await words();
    await press("Promote", row("tiny-run-1"));
    seen.checks = await words();
    await press("Promote");
    seen.promoted = await told();
    await press("Overview", page.locator("nav"));
    seen.overview = await words();
    await press("Catalog", page.locator("nav"));
    seen.catalog = await words();
  },
};

let failed = null;
try {
  await walks[walk]();
} catch (error) {
  failed = `${error.stack}\nat ${page.url()}: ${(await words().catch(() => "")).slice(0, 600)}`;
}
await browser.close();
process.stdout.write(JSON.stringify({ failed, wrong, seen, pressed, times }));
