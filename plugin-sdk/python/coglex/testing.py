"""For tests that need a server: `coglex plugin test` runs the functions of the
modules in `tests/` whose names begin with `test_`, each in an instance of its own,
with a whole server of its own that has an empty store in memory and a clock that
stands still. What a test calls of `coglex` (`storage`, `kv`, `auth` …) acts on that
server, as the plugin and with what its `coglex.toml` asks for.

    # tests/notes.py
    from coglex import storage, testing

    def test_keeps_notes():
        answer = testing.request("POST", "/api/notes", json_body={"text": "Buy milk"})
        assert answer.status == 201
        assert len(storage.find("notes")) == 1
        testing.as_anonymous()
        assert testing.request("GET", "/api/notes").status == 401
"""

from __future__ import annotations

import json
import math
import traceback
from dataclasses import dataclass
from datetime import datetime
from types import ModuleType
from typing import Any, Callable, Optional

from .bindings import need
from .errors import Problem
from .request import Request
from .response import Response

_tests: dict[str, Callable[[], None]] = {}


def collect(module: ModuleType) -> None:
    """Adds the tests of a module. Called by the generated entry."""
    for name, body in vars(module).items():
        if name.startswith("test_") and callable(body) and body.__module__ == module.__name__:
            _tests[f"{module.__name__}.{name}"] = body


def listed() -> list[str]:
    """`coglex:testing/suite`'s list."""
    return list(_tests)


def run(err: Callable[[Any], Exception], name: str) -> None:
    """Runs a test of `coglex:testing/suite`; a failure is raised wrapped in `err`."""
    try:
        _tests[name]()
    except Exception:
        raise err(traceback.format_exc()) from None


def set_time(time: datetime) -> None:
    """Sets the clock. It goes for `time` and `datetime`, keys with a time to live,
    and sessions."""
    _host().set_time(math.floor(time.timestamp() * 1000))


def advance(seconds: float) -> None:
    """Moves the clock on. `time.sleep` does as well, and is over at once."""
    _host().advance(math.ceil(seconds * 1000))


def as_client() -> None:
    """From here on the test is the holder of the API key, with nobody signed in. So
    every test begins."""
    _host().as_client()


def as_anonymous() -> None:
    """From here on it is nobody: without the API key, without a session."""
    _host().as_anonymous()


def as_user(collection: str, key: str, document: Optional[dict[str, Any]] = None) -> Any:
    """From here on a user of this collection is signed in, and the API key is there
    as well. The user is made if there is none with this key, with `document` as what
    else is known of them (`{"roles": ["admin"]}`). Answers with their `_id`."""
    return json.loads(_host().as_user(collection, key, json.dumps(document or {})))


class Received(Response):
    """What the server under test has answered."""

    def read_text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def read_json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def request(
    method: str,
    target: str,
    headers: Optional[dict[str, str]] = None,
    body: bytes | str = b"",
    json_body: Any = None,
) -> Received:
    """Asks the server under test as a client would: the plugin's routes with their
    guards, schemas and limits, and the whole HTTP API. Who asks is what `as_user` and
    its like have said; a credential among the headers takes its place."""
    made = Request(method, target, headers, body, json_body)
    wit = _host()
    sent = wit.Request(method=method, target=target, headers=made.headers, body=made.body)
    answer = wit.send(sent)
    return Received(answer.status, bytes(answer.body), list(answer.headers))


def call(name: str, *args: Any, **kwargs: Any) -> Any:
    """Calls a function as a client would. Any other answer than 200 is raised as a
    `Problem`."""
    path = f"/service/execution/v1/execute/{name}/"
    answer = request("POST", path, json_body={"args": list(args), "kwargs": kwargs})
    if answer.status == 200:
        return answer.read_json()
    problem = answer.read_json()
    raise Problem(answer.status, problem.get("detail", ""), problem.get("code"))


@dataclass
class LogLine:
    """A line of the log."""

    level: str
    message: str
    fields: dict[str, str]


def logs() -> list[LogLine]:
    """The lines that plugin and test have logged so far, oldest first."""
    return [LogLine(each.level, each.message, dict(each.fields)) for each in _host().logs()]


def set_setting(name: str, value: Any) -> None:
    """Sets what `config` has as a setting: a text as it is, anything else as JSON."""
    _host().set_setting(name, value if isinstance(value, str) else json.dumps(value))


def set_secret(name: str, value: str) -> None:
    """Sets what `config` has as a secret. The grant is needed all the same."""
    _host().set_secret(name, value)


def _host() -> Any:
    return need("testing", "`coglex plugin test` has it, for the modules in tests/")
