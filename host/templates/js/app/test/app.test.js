import assert from "node:assert/strict";
import { test } from "node:test";

import { Request, app } from "coglex";
import "../src/app.js";

test("greets by name", () => {
  const response = app.respond(new Request("GET", "/api/{{name}}/hello?name=Ann"));
  assert.equal(new TextDecoder().decode(response.body), "Hello, Ann!");
});
