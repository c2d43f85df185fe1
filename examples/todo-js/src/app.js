// A to-do list over the collection `todos`.
//
// Build: `coglex build examples/todo-js`

import { Response, apiKey, app, idText, problem, storage } from "coglex";

const guards = [apiKey()];

app.get("/api/todos", { guards, summary: "Lists todos; `?done=true|false` filters." }, (request) => {
  const done = request.query("done");
  if (![undefined, "true", "false"].includes(done)) throw problem(400, "`done` is true or false");
  const filter = done === undefined ? {} : { done: done === "true" };
  return storage.find("todos", { filter, sort: { _id: 1 }, limit: 100 }).map(view);
});

app.post("/api/todos", { guards, bodyLimit: 4096, summary: "Adds a todo." }, (request) => {
  const todo = request.json({ title: "string", done: { type: "boolean", default: false } });
  const id = storage.insert("todos", todo);
  return Response.json(view({ _id: id, ...todo }), 201).header("location", `/api/todos/${idText(id)}`);
});

app.get("/api/todos/{id}", { guards, summary: "Shows a todo." }, (request) => show(request.param("id")));

app.patch("/api/todos/{id}", { guards, bodyLimit: 4096, summary: "Changes a todo." }, (request) => {
  const id = request.param("id");
  const changes = request.json({
    title: { type: "string", optional: true },
    done: { type: "boolean", optional: true },
  });
  if (Object.keys(changes).length > 0) storage.updateById("todos", id, { $set: changes });
  return show(id);
});

app.delete("/api/todos/{id}", { guards, summary: "Deletes a todo." }, (request) => {
  if (!storage.removeById("todos", request.param("id"))) throw problem(404, "there is no such todo");
});

function show(id) {
  const todo = storage.get("todos", id);
  if (todo === null) throw problem(404, "there is no such todo");
  return view(todo);
}

/** A todo as clients see it: its id is a plain string. */
function view({ _id, title, done }) {
  return { id: idText(_id), title, done };
}
