// Run by `coglex plugin test`, each test with a server in memory.

import { storage } from "coglex";
import { asAnonymous, equal, request, test } from "coglex/testing";

test("keeps notes", () => {
  equal(request("POST", "/api/{{name}}/notes", { body: { text: "Buy milk" } }).status, 201);
  equal(storage.find("notes").length, 1);

  asAnonymous();
  equal(request("GET", "/api/{{name}}/notes").status, 401);
});
