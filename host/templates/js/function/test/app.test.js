import assert from "node:assert/strict";
import { test } from "node:test";

import { functions } from "coglex";
import "../src/app.js";

test("greets by name", () => {
  assert.equal(functions.call("greet", ["Ann"], { greeting: "Hi" }), "Hi, Ann!");
  assert.throws(() => functions.call("greet", [""]), { code: "no_name" });
});
