// Notes over HTTP, kept in the collection `notes`.

import { Response, apiKey, app, idText, storage } from "coglex";

app.get("/api/{{name}}/hello", { summary: "Greets; `?name=` says whom." }, (request) => {
  return `Hello, ${request.query("name") ?? "world"}!`;
});

app.get("/api/{{name}}/notes", { guards: [apiKey()], summary: "Lists the notes." }, () => {
  return storage.find("notes", { sort: { _id: -1 }, limit: 50 });
});

app.post("/api/{{name}}/notes", { guards: [apiKey()], bodyLimit: 4096, summary: "Adds a note." }, (request) => {
  const note = request.json({ text: "string" });
  const id = storage.insert("notes", note);
  return Response.json({ id: idText(id) }, 201);
});
