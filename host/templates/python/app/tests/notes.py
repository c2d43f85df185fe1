"""Run by `coglex plugin test`, each test with a server in memory."""

from coglex import storage, testing


def test_keeps_notes() -> None:
    added = testing.request("POST", "/api/{{name}}/notes", json_body={"text": "Buy milk"})
    assert added.status == 201
    assert len(storage.find("notes")) == 1

    testing.as_anonymous()
    assert testing.request("GET", "/api/{{name}}/notes").status == 401
