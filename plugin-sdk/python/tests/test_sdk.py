"""`python3 -m unittest discover -s plugin-sdk/python/tests`"""

import json
import sys
import unittest
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from coglex import App, Functions, Problem, Request, Response, ServerError, id_text, storage, to_id  # noqa: E402
from coglex.host import bind  # noqa: E402

HEX = "507f1f77bcf86cd799439011"


def ask(app: App, method: str, path: str, **options: Any) -> tuple[int, str]:
    response = app.respond(Request(method, path, **options))
    return response.status, response.body.decode()


class Apps(unittest.TestCase):
    def test_requests_reach_the_handler_of_their_route_and_method(self) -> None:
        app = App()
        app.get("/items/")(lambda _: "list")
        app.post("/items")(lambda _: "add")
        app.any("/items/{id}")(lambda request: f"any {request.param('id')}")
        app.get("/items/{id}")(lambda request: f"item {request.param('id')}")
        app.get("/items/new")(lambda _: "new")
        app.get("/files/{*path}")(lambda request: request.param("path"))
        app.get("/nothing")(lambda _: None)
        app.get("/")(lambda _: {"root": True})
        for method, path, status, body in [
            ("GET", "/items", 200, "list"),
            ("HEAD", "/items/", 200, "list"),
            ("POST", "/items", 200, "add"),
            ("GET", "/items/7", 200, "item 7"),
            ("DELETE", "/items/7", 200, "any 7"),
            ("GET", "/items/new", 200, "new"),
            ("GET", "/files/a/b.txt", 200, "a/b.txt"),
            ("GET", "/nothing", 204, ""),
            ("GET", "/", 200, '{"root":true}'),
        ]:
            self.assertEqual(ask(app, method, path), (status, body), f"{method} {path}")
        for method, path, status in [("GET", "/absent", 404), ("GET", "/files", 404), ("PUT", "/items", 405)]:
            self.assertEqual(ask(app, method, path)[0], status, f"{method} {path}")

    def test_errors_are_problems_the_clients_in_full_ours_as_500(self) -> None:
        app = App()

        def failing(error: Exception) -> Any:
            def handler(_: Request) -> None:
                raise error

            return handler

        app.get("/teapot")(failing(Problem(418, "short and stout", "teapot")))
        app.get("/conflict")(failing(ServerError("conflict", "secret")))
        app.get("/away")(failing(ServerError("unavailable")))
        app.get("/bug")(failing(KeyError("secret")))
        problem = lambda path: json.loads(ask(app, "GET", path)[1])  # noqa: E731
        expected = {"type": "about:blank", "title": "Client Error", "status": 418, "detail": "short and stout", "code": "teapot"}
        self.assertEqual(problem("/teapot"), expected)
        self.assertEqual((problem("/conflict")["status"], problem("/conflict")["detail"]), (409, "It exists already."))
        self.assertEqual(problem("/away")["status"], 503)
        self.assertEqual((problem("/bug")["status"], problem("/bug")["detail"]), (500, "The app failed to answer."))

    def test_queries_and_bodies_are_decoded_and_checked(self) -> None:
        request = Request("GET", "/x?name=a%20b+c&n=7&n=8&empty=")
        self.assertEqual(request.path, "/x")
        self.assertEqual(request.query("name"), "a b c")
        self.assertEqual(request.query_all("n"), ["7", "8"])
        self.assertEqual((request.query("empty"), request.query("absent")), ("", None))
        with self.assertRaises(Problem):
            Request("GET", "/x?a=%ff").query("a")

        @dataclass
        class New:
            title: str
            done: bool = False
            note: Optional[str] = None

        def read(body: Any, content_type: str = "application/json") -> New:
            return Request("POST", "/", headers={"Content-Type": content_type}, body=body).json(New)

        self.assertEqual(read('{"title": "ünïcödé 🦀"}'), New("ünïcödé 🦀"))
        self.assertEqual(read('{"title": "a", "done": true, "note": null}', "application/x+json; a=b"), New("a", True))
        for body, part in [
            ("{}", "`title` is missing"),
            ('{"title": 7}', "`title` is an integer, expected text"),
            ('{"title": "a", "done": 1}', "`done` is an integer, expected true or false"),
            ('{"title": "a", "more": 1}', "no field `more`"),
            ("[]", "expected an object, not a list"),
            ("{", "not as it should be"),
            ("[" * 100_000, "not as it should be"),
            (b"\xff", "not UTF-8"),
        ]:
            with self.assertRaises(Problem) as caught:
                read(body)
            self.assertEqual(caught.exception.status, 400)
            self.assertIn(part, caught.exception.detail)
        with self.assertRaises(Problem) as caught:
            read("{}", "text/plain")
        self.assertEqual(caught.exception.status, 415)

    def test_a_response_is_what_the_handler_makes_of_it(self) -> None:
        response = Response.json({"id": 7}, 201).header("location", "/items/7")
        self.assertEqual(response.headers, [("content-type", "application/json"), ("location", "/items/7")])


class CalledByName(unittest.TestCase):
    def test_schedules_hooks_and_schemas_are_declared(self):
        from coglex import Hook, Schedule, after, before, function, functions

        def tidy() -> int:
            """Tidies."""
            return 1

        def check_order(write: dict) -> dict:
            write["documents"][0]["total"] = 3
            return write

        function(schedule=["@daily", Schedule("0 3 * * *", kwargs={"days": 30})], kwargs_schema={"type": "object"})(tidy)
        function(hooks=[before("insert", "orders", order=3, proceed=True), after("delete", "orders")])(check_order)
        declared = dict(functions.declared())
        self.assertEqual(set(declared), {"tidy", "check_order"})
        self.assertEqual(declared["tidy"].schedules, (Schedule("@daily"), Schedule("0 3 * * *", None, {"days": 30})))
        self.assertEqual(declared["tidy"].kwargs_schema, {"type": "object"})
        self.assertEqual(
            declared["check_order"].hooks,
            (Hook("before", "insert", "orders", 3, True), Hook("after", "delete", "orders")),
        )
        answer = functions.call("check_order", [{"documents": [{"_id": "a"}]}])
        self.assertEqual(answer["documents"], [{"_id": "a", "total": 3}])
        with self.assertRaises(ValueError):
            before("read", "orders")

    def test_arguments_bind_by_position_and_by_name_and_what_does_not_fit_is_named(self) -> None:
        functions = Functions()

        def greet(name: str, greeting: str = "Hello", times: Optional[int] = None) -> str:
            """Greets somebody.

            At length."""
            return f"{greeting}, {name}!" * (times or 1)

        functions.add(greet)
        self.assertEqual(functions.listed(), [("greet", "Greets somebody.")])
        self.assertEqual(functions.call("greet", ["Ann"]), "Hello, Ann!")
        self.assertEqual(functions.call("greet", ["Ann", "Hi", 2]), "Hi, Ann!Hi, Ann!")
        self.assertEqual(functions.run("greet", "[]", '{"greeting": "Hi", "name": "Ann"}'), '"Hi, Ann!"')
        for args, kwargs, message in [
            ([], {}, "the argument `name` is missing"),
            (["a", 7], {}, "the argument `greeting` is an integer, expected text"),
            (["a", "b", True], {}, "the argument `times` is true or false, expected an integer or null"),
            (["a"], {"name": "b"}, "the argument `name` is given twice, by position and by name"),
            (["a", "b", 1, 2], {}, "there are 4 positional arguments where at most 3 fit"),
            (["a"], {"d": 1}, "there is no parameter `d`"),
        ]:
            with self.assertRaises(Problem) as caught:
                functions.call("greet", args, kwargs)
            self.assertEqual((caught.exception.status, caught.exception.code), (422, "invalid_argument"))
            self.assertEqual(caught.exception.detail, message)


class Storing(unittest.TestCase):
    def test_storage_without_a_server_says_so(self) -> None:
        with self.assertRaisesRegex(RuntimeError, "storage grant"):
            storage.get("items", "a")

    def test_storage_speaks_extended_json_and_unwraps_errors(self) -> None:
        class Error_AccessDenied:  # noqa: N801, as componentize-py names it
            value = "no"

        class Err(Exception):
            def __init__(self, value: Any) -> None:
                self.value = value

        class Documents:
            def insert(self, collection: str, documents: list[str]) -> list[str]:
                self.inserted = (collection, documents)
                return [json.dumps({"$oid": HEX})]

            def get(self, collection: str, id: str) -> str:
                raise Err(Error_AccessDenied())

        documents = Documents()
        bind(documents=documents)
        try:
            self.assertEqual(storage.insert("items", {"a": 1}), {"$oid": HEX})
            self.assertEqual(documents.inserted, ("items", ['{"a":1}']))
            with self.assertRaises(ServerError) as caught:
                storage.get("items", "a")
            self.assertEqual((caught.exception.kind, str(caught.exception)), ("access-denied", "access-denied: no"))
        finally:
            bind(documents=None)

    def test_ids_are_extended_json(self) -> None:
        self.assertEqual(to_id(HEX.upper()), {"$oid": HEX})
        self.assertEqual(to_id("milk"), "milk")
        self.assertEqual((id_text({"$oid": HEX}), id_text("milk"), id_text(7)), (HEX, "milk", "7"))


if __name__ == "__main__":
    unittest.main()
