"""A to-do list over the collection `todos`.

Build: `coglex build examples/todo-python`"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Optional

from coglex import Problem, Request, Response, api_key, app, id_text, storage

GUARDS = [api_key()]


@dataclass
class NewTodo:
    title: str
    done: bool = False


@dataclass
class Changes:
    title: Optional[str] = None
    done: Optional[bool] = None


@app.get("/api/todos", guards=GUARDS)
def list_todos(request: Request) -> list[dict[str, Any]]:
    """Lists todos; `?done=true|false` filters."""
    done = request.query("done")
    if done not in (None, "true", "false"):
        raise Problem(400, "`done` is true or false")
    filter = {} if done is None else {"done": done == "true"}
    return [view(todo) for todo in storage.find("todos", filter, sort={"_id": 1}, limit=100)]


@app.post("/api/todos", guards=GUARDS, body_limit=4096)
def create(request: Request) -> Response:
    """Adds a todo."""
    todo = asdict(request.json(NewTodo))
    id = storage.insert("todos", todo)
    return Response.json(view({"_id": id, **todo}), 201).header("location", f"/api/todos/{id_text(id)}")


@app.get("/api/todos/{id}", guards=GUARDS)
def show(request: Request) -> dict[str, Any]:
    """Shows a todo."""
    return find(request.param("id"))


@app.patch("/api/todos/{id}", guards=GUARDS, body_limit=4096)
def change(request: Request) -> dict[str, Any]:
    """Changes a todo."""
    id = request.param("id")
    changes = {name: value for name, value in asdict(request.json(Changes)).items() if value is not None}
    if changes:
        storage.update_by_id("todos", id, {"$set": changes})
    return find(id)


@app.delete("/api/todos/{id}", guards=GUARDS)
def remove(request: Request) -> None:
    """Deletes a todo."""
    if not storage.delete_by_id("todos", request.param("id")):
        raise Problem(404, "there is no such todo")


def find(id: str) -> dict[str, Any]:
    todo = storage.get("todos", id)
    if todo is None:
        raise Problem(404, "there is no such todo")
    return view(todo)


def view(todo: dict[str, Any]) -> dict[str, Any]:
    """A todo as clients see it: its id is a plain string."""
    return {"id": id_text(todo["_id"]), "title": todo["title"], "done": todo["done"]}
