"""Write Coglex plugins in Python: gateway apps that answer HTTP requests, and
functions that clients call by name.

    from coglex import Problem, api_key, app, storage

    @app.get("/api/items/{id}", guards=[api_key()])
    def show(request):
        item = storage.get("items", request.param("id"))
        if item is None:
            raise Problem(404, "there is no such item")
        return item

The module runs once, when `coglex build` makes the component; each request is
then answered by a fresh copy of what it left behind. There is no state to share
between requests. What is printed lands in the server's log.

It is plain Python over the generated bindings, which the component's entry hands
in (see `coglex.host`). So it loads without a server, where routes and functions
can be tested; only what needs the server says that it is missing.
"""

from . import auth, config, execution, jobs, kv, log, mail, payment, storage
from .app import App, Cache, Guard, Rate, api_key, app, authenticated, role
from .errors import Problem, ServerError, failure
from .functions import Functions, Hook, Schedule, after, before, function, functions
from .ids import id_text, to_id
from .request import Request
from .response import Response

__all__ = [
    "App",
    "Cache",
    "Functions",
    "Guard",
    "Hook",
    "Problem",
    "Rate",
    "Request",
    "Response",
    "Schedule",
    "ServerError",
    "after",
    "api_key",
    "app",
    "auth",
    "authenticated",
    "before",
    "config",
    "execution",
    "failure",
    "function",
    "functions",
    "id_text",
    "jobs",
    "kv",
    "log",
    "mail",
    "payment",
    "role",
    "storage",
    "to_id",
]
