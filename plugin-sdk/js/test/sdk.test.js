import assert from "node:assert/strict";
import { test } from "node:test";

import { App, Functions, Problem, Request, Response, ServerError, apiKey, authenticated, idText, role, storage, toId } from "coglex";
import { bind } from "coglex/host";

const text = (response) => new TextDecoder().decode(response.body);
const ask = (app, method, path, options) => {
  const response = app.respond(new Request(method, path, options));
  return [response.status, text(response)];
};

test("requests reach the handler of their route and method", () => {
  const app = new App()
    .get("/items/", () => "list")
    .post("/items", () => "add")
    .any("/items/{id}", (request) => `any ${request.param("id")}`)
    .get("/items/{id}", (request) => `item ${request.param("id")}`)
    .get("/items/new", () => "new")
    .get("/files/{*path}", (request) => request.param("path"))
    .get("/nothing", () => {})
    .get("/", () => ({ root: true }));
  for (const [method, path, status, body] of [
    ["GET", "/items", 200, "list"],
    ["HEAD", "/items/", 200, "list"],
    ["POST", "/items", 200, "add"],
    ["GET", "/items/7", 200, "item 7"],
    ["DELETE", "/items/7", 200, "any 7"],
    ["GET", "/items/new", 200, "new"],
    ["GET", "/files/a/b.txt", 200, "a/b.txt"],
    ["GET", "/nothing", 204, ""],
    ["GET", "/", 200, '{"root":true}'],
  ]) {
    assert.deepEqual(ask(app, method, path), [status, body], `${method} ${path}`);
  }
  for (const [method, path, status] of [["GET", "/absent", 404], ["GET", "/files", 404], ["PUT", "/items", 405]]) {
    assert.equal(ask(app, method, path)[0], status, `${method} ${path}`);
  }
});

test("the manifest lists every route as it is answered", () => {
  const app = new App().post("/items/", { guards: [apiKey(), authenticated("users")], bodyLimit: 10, summary: "Adds." }, () => "")
    .any("/all", { guards: [role("users", "admin")], rate: { requests: 5, seconds: 60 }, cache: { maxAge: 9 }, bodySchema: { type: "object" } }, () => "");
  const nothing = { mediaTypes: [], rate: null, cache: null, summary: null, bodySchema: null, querySchema: null, outputSchema: null };
  assert.deepEqual(app.manifest(), {
    routes: [{
      ...nothing,
      methods: ["POST"],
      path: "/items",
      guards: [{ tag: "api-key" }, { tag: "authenticated", val: "users" }],
      bodyLimit: 10,
      summary: "Adds.",
    }, {
      ...nothing,
      methods: [],
      path: "/all",
      guards: [{ tag: "role", val: { collection: "users", name: "admin" } }],
      bodyLimit: null,
      rate: { requests: 5, seconds: 60, per: "caller" },
      cache: { maxAge: 9, shared: false },
      bodySchema: '{"type":"object"}',
    }],
  });
});

test("errors are problems: the client's in full, ours as 500", () => {
  const app = new App()
    .get("/teapot", () => { throw new Problem(418, "short and stout", "teapot"); })
    .get("/conflict", () => { throw new ServerError("conflict", "secret"); })
    .get("/away", () => { throw new ServerError("unavailable"); })
    .get("/bug", () => undefined.x)
    .get("/async", async () => "later");
  const problem = (path) => JSON.parse(ask(app, "GET", path)[1]);
  assert.deepEqual(problem("/teapot"), {
    type: "about:blank", title: "Client Error", status: 418, detail: "short and stout", code: "teapot",
  });
  assert.deepEqual([problem("/conflict").status, problem("/conflict").detail], [409, "It exists already."]);
  assert.equal(problem("/away").status, 503);
  for (const path of ["/bug", "/async"]) {
    assert.deepEqual([problem(path).status, problem(path).detail], [500, "The app failed to answer."]);
  }
});

test("queries and bodies are decoded and checked", () => {
  const request = new Request("GET", "/x?name=a%20b+c&n=7&n=8&empty=&bare");
  assert.deepEqual(
    [request.path, request.query("name"), request.queryAll("n"), request.query("empty"), request.query("bare"), request.query("absent")],
    ["/x", "a b c", ["7", "8"], "", "", undefined],
  );
  const shape = { title: "string", done: { type: "boolean", default: false }, note: { type: "string", optional: true } };
  const read = (body, type = "application/json") =>
    new Request("POST", "/", { headers: { "Content-Type": type }, body }).json(shape);
  assert.deepEqual(read('{"title": "ünïcödé 🦀"}'), { title: "ünïcödé 🦀", done: false });
  assert.deepEqual(read('{"title": "a", "done": true, "note": null}', "application/x+json; a=b"), { title: "a", done: true });
  for (const [body, part] of [
    ["{}", "`title` is missing"],
    ['{"title": 7}', "`title` is of type number, expected string"],
    ['{"title": "a", "more": 1}', "no field `more`"],
    ["[]", "expected an object, not array"],
    ["{", "not as it should be"],
    [new Uint8Array([0xff]), "not UTF-8"],
  ]) {
    assert.throws(() => read(body), (error) => error.status === 400 && error.message.includes(part), `${body}`);
  }
  assert.throws(() => read("{}", "text/plain"), { status: 415 });
});

test("schedules, hooks and schemas are declared, and a hook gets its write", () => {
  const functions = new Functions()
    .add("plain", () => 1)
    .add("tidy", { schedule: ["@daily", { cron: "0 3 * * *", kwargs: { days: 30 } }], schema: { kwargs: { type: "object" } } }, () => 1)
    .add("check", { before: { on: ["insert", "update"], collection: "orders", order: 3, onFailure: "proceed" }, after: { on: "delete", collection: "orders" } }, (write) => {
      write.documents[0].total = 3;
      return write;
    });
  const [tidy, check, ...rest] = functions.declare();
  assert.deepEqual(rest, []);
  assert.equal(tidy.name, "tidy");
  assert.deepEqual(tidy.schedules, [
    { cron: "@daily", args: null, kwargs: null },
    { cron: "0 3 * * *", args: null, kwargs: '{"days":30}' },
  ]);
  assert.equal(tidy.kwargsSchema, '{"type":"object"}');
  assert.deepEqual(check.hooks, [
    { moment: "before", operation: "insert", collection: "orders", order: 3, onFailure: "proceed" },
    { moment: "before", operation: "update", collection: "orders", order: 3, onFailure: "proceed" },
    { moment: "after", operation: "delete", collection: "orders", order: 0, onFailure: "refuse" },
  ]);
  const answer = functions.call("check", [{ documents: [{ _id: "a" }] }]);
  assert.deepEqual(answer, { documents: [{ _id: "a", total: 3 }] });
  assert.throws(() => new Functions().add("x", { before: { on: "read", collection: "a" } }, () => 1), TypeError);
});

test("arguments bind by position and by name, and what does not fit is named", () => {
  const functions = new Functions().add(
    "greet",
    { params: { name: "string", greeting: { type: "string", default: "Hello" }, times: { type: "integer", optional: true } } },
    ({ name, greeting, times = 1 }) => `${greeting}, ${name}!`.repeat(times),
  );
  assert.equal(functions.call("greet", ["Ann"]), "Hello, Ann!");
  assert.equal(functions.call("greet", ["Ann", "Hi", 2]), "Hi, Ann!Hi, Ann!");
  assert.equal(functions.call("greet", [], { greeting: "Hi", name: "Ann" }), "Hi, Ann!");
  for (const [args, kwargs, message] of [
    [[], {}, "the argument `name` is missing"],
    [["a", 7], {}, "the argument `greeting` is of type number, expected string"],
    [["a"], { name: "b" }, "the argument `name` is given twice, by position and by name"],
    [["a", "b", 1, 2], {}, "there are 4 positional arguments where at most 3 fit"],
    [["a"], { d: 1 }, "there is no parameter `d`"],
  ]) {
    assert.throws(() => functions.call("greet", args, kwargs), { status: 422, code: "invalid_argument", message });
  }
  assert.throws(() => functions.run({ name: "greet", args: "[]", kwargs: "{}" }), (error) =>
    error.tag === "failure" && error.val.code === "invalid_argument");
  assert.throws(() => functions.run({ name: "absent", args: "[]", kwargs: "{}" }), (error) => error.val.code === "not_found");
});

test("storage speaks Extended JSON with the server and unwraps its errors", () => {
  assert.throws(() => storage.get("items", "a"), /storage grant/);
  const calls = [];
  let batches = [['{"_id":{"$oid":"507f1f77bcf86cd799439011"}}'], ['{"_id":"b"}'], []];
  bind({
    documents: {
      find: (...given) => (calls.push(given), { next: () => batches.shift() }),
      get: () => { throw Object.assign(new Error("wrapped"), { payload: { tag: "access-denied", val: "no" } }); },
      insert: (...given) => (calls.push(given), ['{"$oid":"507f1f77bcf86cd799439011"}']),
    },
  });
  assert.deepEqual(storage.find("items", { filter: { a: 1 } }).map(({ _id }) => idText(_id)), ["507f1f77bcf86cd799439011", "b"]);
  assert.deepEqual(calls[0], ["items", { filter: '{"a":1}', projection: null, sort: null, skip: 0, limit: null }]);
  assert.deepEqual(storage.insert("items", { a: 1 }), { $oid: "507f1f77bcf86cd799439011" });
  assert.throws(() => storage.get("items", "a"), (error) => error instanceof ServerError && error.kind === "access-denied");
  assert.deepEqual(toId("507F1f77bcf86cd799439011"), { $oid: "507f1f77bcf86cd799439011" });
  assert.equal(toId("milk"), "milk");
});

test("a response is what the handler makes of it", () => {
  const response = Response.json({ id: 7 }, 201).header("location", "/items/7");
  assert.equal(response.status, 201);
  assert.deepEqual(response.headers, [["content-type", "application/json"], ["location", "/items/7"]]);
});
