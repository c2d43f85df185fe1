// A customer on the Checkout page: is declined, goes away, comes back, pays, and comes
// back once more.

import { run } from "./harness.mjs";

await run(async (page, { url }) => {
  const seen = {};
  await page.goto(url);
  seen.text = await page.textContent("body");
  seen.total = await page.textContent("#total");
  seen.email = await page.inputValue("input[name=email]");

  await page.click("#decline");
  seen.declined = await page.textContent("#problem");

  await page.click("#cancel");
  await page.waitForURL("**/healthz?cancelled");
  seen.cancelled = page.url();

  await page.goto(url);
  await page.click("#pay");
  await page.waitForURL("**/healthz?session=*");
  seen.thanks = page.url();

  await page.goto(url);
  seen.again = await page.textContent("#status");
  return seen;
});
