// Opens a page in Chromium, has a script look at it, and prints what that saw.

import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const { chromium } = require(process.env.COGLEX_PLAYWRIGHT);

/** How long anything may take on a busy machine. */
const PATIENCE = 20_000;

/**
 * Runs `look(page, input, context)` with a page of a fresh browser, and prints its answer
 * as a line of JSON. A failure ends the process with it.
 */
export async function run(look) {
  const browser = await chromium.launch({
    executablePath: process.env.COGLEX_CHROMIUM,
    // In a container there is no sandbox for root; what is opened here is our own.
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
    timeout: 3 * PATIENCE,
  });
  try {
    const context = await browser.newContext();
    context.setDefaultTimeout(PATIENCE);
    const page = await context.newPage();
    const answer = await look(page, JSON.parse(process.env.COGLEX_INPUT), context);
    console.log(JSON.stringify(answer));
  } finally {
    await browser.close();
  }
}
