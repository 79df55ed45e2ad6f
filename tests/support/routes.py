"""Every route of the app, from its own table: what a test generates its requests from. Called by the contract tests."""

from typing import Any

import fastapi.routing
from fastapi import FastAPI


def all_routes(app: FastAPI) -> list[tuple[str, str]]:
    """Method and path of every route, parameters in braces."""
    # Newer versions of FastAPI keep included routers nested; this is their way to see all routes.
    walk: Any = getattr(fastapi.routing, "iter_route_contexts", list)
    return [(method, route.path) for route in walk(app.routes) for method in sorted(route.methods)]


def filled(path: str, value: str = "x") -> str:
    """The path with something in place of each parameter."""
    return "/".join(value if part.startswith("{") else part for part in path.split("/"))
