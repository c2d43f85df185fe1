"""Notes over HTTP, kept in the collection `notes`."""

from dataclasses import asdict, dataclass

from coglex import Request, Response, api_key, app, id_text, storage


@dataclass
class Note:
    text: str


@app.get("/api/{{name}}/hello")
def hello(request: Request) -> str:
    """Greets; `?name=` says whom."""
    return f"Hello, {request.query('name') or 'world'}!"


@app.get("/api/{{name}}/notes", guards=[api_key()])
def list_notes(request: Request) -> list:
    """Lists the notes."""
    return storage.find("notes", sort={"_id": -1}, limit=50)


@app.post("/api/{{name}}/notes", guards=[api_key()], body_limit=4096)
def add_note(request: Request) -> Response:
    """Adds a note."""
    note = request.json(Note)
    id = storage.insert("notes", asdict(note))
    return Response.json({"id": id_text(id)}, 201)
