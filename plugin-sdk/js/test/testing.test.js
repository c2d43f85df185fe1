import assert from "node:assert/strict";
import { test } from "node:test";

import * as testing from "../src/testing.js";

test("a suite lists its tests and tells how they went", () => {
  testing.test("passes", () => testing.equal({ a: 1, b: [new Uint8Array([1])] }, { b: [new Uint8Array([1])], a: 1 }));
  testing.test("fails", () => testing.equal(1, 2, "one is not two"));
  testing.test("waits", async () => {});
  assert.deepEqual(testing.exportedSuite.list(), ["passes", "fails", "waits"]);
  testing.exportedSuite.run("passes");
  // The interface wants a text.
  const why = (name) => {
    try {
      testing.exportedSuite.run(name);
    } catch (error) {
      return error;
    }
    return undefined;
  };
  assert.match(why("fails"), /one is not two/);
  assert.match(why("waits"), /not an async one/);
  assert.match(why("absent"), /no test named absent/);
  assert.throws(() => testing.test("passes", () => {}), /two tests named passes/);
});

test("assertions say what they have seen", () => {
  assert.throws(() => testing.equal([1, undefined], [1, 2]), /actual: {3}\[1,null\]/);
  assert.throws(() => testing.ok(0), /this is not true: 0/);
  assert.throws(() => testing.throws(() => {}), /this throws nothing/);
  assert.equal(testing.throws(() => testing.ok(false, "no")).message, "no: false");
});

test("without `coglex plugin test` there is no server to ask", () => {
  assert.throws(() => testing.request("GET", "/"), /coglex plugin test/);
});
