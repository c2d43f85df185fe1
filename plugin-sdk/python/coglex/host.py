"""For the entry that `coglex build` writes: what a component exports, made of
what the plugin's module has put into `app` and `functions`. Not for plugins.

The entry imports the generated bindings and hands them in as `wit`, because
their modules exist only inside of a component."""

from __future__ import annotations

# Python imports codecs when a text first wants one, and what is imported after
# the component was built is not in it.
import encodings.ascii
import encodings.idna
import encodings.latin_1
import encodings.utf_8_sig
import encodings.utf_16  # noqa: F401
import json
import random
from typing import Any, Callable, Optional

from . import execution, log
from .app import Cache, Guard, Rate, app
from .bindings import bind
from .errors import ServerError, shown, to_problem
from .functions import functions
from .request import Request

__all__ = ["bind", "describe_app", "declare_functions", "describe_functions", "handle", "run"]


def _fresh() -> None:
    """A component starts from a snapshot that was taken when it was built. The
    state of `random` is in it, so every call would see the same numbers."""
    random.seed()


def describe_app(wit: Any) -> Any:
    """`coglex:gateway/app`'s manifest, made with that interface's classes."""

    def guard(guard: Guard) -> Any:
        if guard.collection is None:
            return wit.Guard_ApiKey()
        if guard.role is not None:
            return wit.Guard_Role(wit.Role(collection=guard.collection, name=guard.role))
        return wit.Guard_Authenticated(guard.collection)

    def rate(rate: Optional[Rate]) -> Any:
        if rate is None:
            return None
        return wit.RateLimit(requests=rate.requests, seconds=rate.seconds, per=wit.RateScope[rate.per.upper()])

    def cache(cache: Optional[Cache]) -> Any:
        return None if cache is None else wit.CacheHints(max_age=cache.max_age, shared=cache.shared)

    def schema(schema: Optional[dict[str, Any]]) -> Optional[str]:
        return None if schema is None else json.dumps(schema)

    return wit.Manifest(
        routes=[
            wit.Route(
                methods=[] if route.method is None else [route.method],
                path=route.path,
                guards=[guard(each) for each in route.guards],
                body_limit=route.body_limit,
                media_types=route.media_types,
                rate=rate(route.rate),
                cache=cache(route.cache),
                summary=route.summary,
                body_schema=schema(route.body_schema),
                query_schema=schema(route.query_schema),
                output_schema=schema(route.output_schema),
            )
            for route in app.routes
        ]
    )


def handle(wit: Any, record: Any) -> Any:
    """Answers a request of `coglex:gateway/handler`."""
    _fresh()
    response = app.answer(Request.received(record))
    return wit.Response(status=response.status, headers=response.headers, body=response.body)


def describe_functions(wit: Any) -> list[Any]:
    """`coglex:function/functions`' list."""
    return [wit.FunctionInfo(name=name, summary=summary) for name, summary in functions.listed()]


def declare_functions(wit: Any) -> list[Any]:
    """`coglex:function/declarations`' list."""

    def text(value: Any) -> Optional[str]:
        return None if value is None else json.dumps(value, separators=(",", ":"))

    return [
        wit.Declaration(
            name=name,
            args_schema=text(declared.args_schema),
            kwargs_schema=text(declared.kwargs_schema),
            result_schema=text(declared.result_schema),
            schedules=[
                wit.Schedule(cron=each.cron, args=text(each.args), kwargs=text(each.kwargs))
                for each in declared.schedules
            ],
            hooks=[
                wit.Hook(
                    moment=wit.Moment[each.moment.upper()],
                    operation=wit.Operation[each.operation.upper()],
                    collection=each.collection,
                    order=each.order,
                    on_failure=wit.OnFailure.PROCEED if each.proceed else wit.OnFailure.REFUSE,
                )
                for each in declared.hooks
            ],
        )
        for name, declared in functions.declared()
    ]


def run(wit: Any, err: Callable[[Any], Exception], call: Any) -> str:
    """Runs a function of `coglex:function/functions`; its errors are raised
    wrapped in `err`."""
    _fresh()
    try:
        execution.begin(call.invocation_id)
        return functions.run(call.name, call.args, call.kwargs)
    except Exception as error:
        problem, _ = to_problem(error)
        if problem.status == 503:
            log.error("a function failed", error=shown(error))
            raise err(wit.Error_Unavailable()) from None
        if problem.status >= 500:
            # The host logs the text.
            raise err(wit.Error_Internal(shown(error))) from None
        raise err(wit.Error_Failure(wit.Failure(code=problem.code, message=problem.detail))) from None
