// Signs in as a page does, and has pages of two other origins send forms to the server.

import { run } from "./harness.mjs";

await run(async (page, { server, neighbour, stranger, key, account }, context) => {
  const seen = {};
  await page.goto(`${server}/healthz`);
  await page.evaluate(
    async ({ key, account }) => {
      const answer = await fetch("/service/auth/v1/signin/users/", {
        method: "POST",
        headers: { "X-API-Key": key, "Content-Type": "application/json" },
        body: JSON.stringify(account),
      });
      if (!answer.ok) throw new Error(await answer.text());
    },
    { key, account },
  );
  seen.cookies = await context.cookies();
  seen.readable = await page.evaluate(() => document.cookie);
  const own = () => page.evaluate(async () => (await fetch("/terms/own", { method: "POST" })).status);
  seen.own = await own();

  // Nobody listens there: the browser is told what the page is, and does the rest.
  for (const [name, url] of Object.entries({ neighbour, stranger })) {
    await context.route(url, (route) =>
      route.fulfill({
        contentType: "text/html",
        body: `<form method="post" action="${server}/terms/own"><button>Win</button></form>`,
      }),
    );
    const other = await context.newPage();
    await other.goto(url);
    const [answer] = await Promise.all([
      other.waitForResponse((response) => response.url().endsWith("/terms/own")),
      other.click("button"),
    ]);
    seen[name] = { status: answer.status(), code: (await answer.json()).code };
    await other.close();
  }

  await page.evaluate(() => fetch("/service/auth/v1/signout/users/", { method: "POST" }));
  seen.signed_out = await own();
  return seen;
});
