// Run by `coglex plugin test`, each test with a server in memory.

import { call, equal, test, throws } from "coglex/testing";

test("greets clients", () => {
  equal(call("greet", ["Ann"]), "Hello, Ann!");
  equal(throws(() => call("greet", [""])).code, "no_name");
});
