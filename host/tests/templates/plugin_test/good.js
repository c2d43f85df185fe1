// Everything that a test can say and see; run by `coglex plugin test`.

import { auth, config, kv, log, storage } from "coglex";
import * as testing from "coglex/testing";

const { test, equal, ok, throws } = testing;

function add(text) {
  return testing.request("POST", "/api/app-in-js/notes", { body: { text } });
}

test("a store is empty at first", () => {
  equal(storage.find("notes").length, 0);
  equal(add("a").status, 201);
  equal(storage.find("notes").length, 1);
});

test("a store is empty at first again", () => {
  equal(storage.find("notes").length, 0);
});

test("keys live by the test's clock", () => {
  const start = Date.now();
  kv.set("key", "value", { ttl: 60 });
  testing.advance(59.999);
  equal(kv.get("key"), "value");
  testing.advance(0.001);
  equal(kv.get("key"), null);
  testing.setTime(new Date(1e12));
});

test("users are signed in", () => {
  equal(auth.user("users"), null);
  const id = testing.asUser("users", "ann", { roles: ["admin"] });
  equal(auth.require("users").id, id);
  equal(testing.request("GET", "/service/auth/v1/session/users/").json()._key, "ann");
  testing.asClient();
  equal(auth.user("users"), null);
  ok(auth.hasApiKey());
});

test("guards and methods are the server's", () => {
  testing.asAnonymous();
  const refused = add("a");
  equal([refused.status, refused.json().code], [401, "api_key_required"]);
  equal(testing.request("PUT", "/api/app-in-js/notes").status, 405);
});

test("settings, secrets and the log are the test's", () => {
  equal(config.get("page"), undefined);
  testing.setSetting("page", 20);
  equal(config.getJson("page"), 20);
  testing.setSecret("token", "t");
  equal(config.secret("token"), "t");
  log.info("hello", { number: 7 });
  equal(testing.logs().pop(), { level: "info", message: "hello", fields: { number: "7" } });
});

test("what is thrown can be looked at", () => {
  const error = throws(() => testing.call("absent", [1], { a: 2 }));
  equal([error.status, error.code], [404, "not_found"]);
});

test("dates go by the test's clock", () => {
  const start = Date.now();
  testing.advance(3600);
  equal(Date.now() - start, 3_600_000);
  testing.setTime(new Date(1e12));
  equal(new Date().getTime(), 1e12);
});
