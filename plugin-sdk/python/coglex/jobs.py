"""Has functions run later, as jobs: kept by the server, run at least once, tried
again when they come to nothing. Needs a grant: `functions = ["send_invoice"]`.

A job runs for nobody: with the grants and budget of the function's plugin, not for
the client that is served now."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Optional

from .bindings import need
from .errors import ServerError, calling


@dataclass(frozen=True)
class Job:
    """A job that this plugin has enqueued."""

    id: str
    """32 hex digits; the invocation id of every attempt."""
    function: str
    state: str
    """`waiting`, `running`, `succeeded`, `failed`, `dead` or `cancelled`."""
    attempts: int
    """Attempts that were begun."""
    result: Any = None
    """What the function has answered, where it has and the server keeps it."""
    failure: Optional[tuple[str, str]] = None
    """Why the last attempt came to nothing: a stable code, and a sentence."""


def enqueue(
    name: str,
    args: Optional[list[Any]] = None,
    kwargs: Optional[dict[str, Any]] = None,
    *,
    at: Optional[datetime] = None,
    max_attempts: Optional[int] = None,
    key: Optional[str] = None,
) -> str:
    """Takes a job in; answers with its id. It is run not before `at`, at most
    `max_attempts` times (1 to 100). While the server keeps a job of this plugin's
    with the same function and `key`, it is the same job."""
    run_at = None if at is None else max(0, math.ceil(at.timestamp() * 1000))
    jobs = _jobs()
    options = jobs.Options(run_at=run_at, max_attempts=max_attempts, key=key)
    positional, named = json.dumps(args or []), json.dumps(kwargs or {})
    return calling(lambda: jobs.enqueue(name, positional, named, options))


def get(id: str) -> Optional[Job]:
    """A job that this plugin has enqueued, or None."""
    try:
        job = calling(lambda: _jobs().get(id))
    except ServerError as error:
        if error.kind == "not-found":
            return None
        raise
    return Job(
        id=job.id,
        function=job.function,
        state=job.state.name.lower(),
        attempts=job.attempts,
        result=None if job.result is None else json.loads(job.result),
        failure=None if job.failure is None else (job.failure.code, job.failure.message),
    )


def cancel(id: str) -> None:
    """Cancels a job that this plugin has enqueued."""
    calling(lambda: _jobs().cancel(id))


def _jobs() -> Any:
    return need("jobs", "it takes a server, and a grant of functions in coglex.toml")
