"""What the conformance record is made with: the reader of OpenAI's document, and the layer that overhears requests and answers."""

import asyncio
import json
from typing import Any

import pytest

from tests.support.conformance import ExceptionRule, Observed, Recorder, Surface
from tests.support.openapi_document import OpenApi


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def thing(kind: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"type": {"type": "string", "enum": [kind]}, **properties}, "required": ["type"]}


TEXT: dict[str, Any] = {"type": "string"}
SCHEMAS: dict[str, Any] = {
    "Order": {
        "allOf": [
            ref("Named"),
            {
                "type": "object",
                "properties": {
                    "dishes": {"type": "array", "items": ref("Dish")},
                    "note": {"anyOf": [TEXT, {"type": "null"}]},
                    "place": {"anyOf": [{"type": "object", "properties": {"street": TEXT}}, TEXT]},
                },
                "required": ["dishes"],
            },
        ]
    },
    "Named": {"type": "object", "properties": {"name": TEXT}, "required": ["name"]},
    "Dish": {"oneOf": [ref("Soup"), ref("Menu"), thing("bread", grain=TEXT)]},
    "Soup": thing("soup", salt={"type": "integer"}),
    "Menu": thing("menu", dishes={"type": "array", "items": ref("Dish")}),
}
BODY = {"content": {"application/json": {"schema": ref("Order")}}}
ANSWER = {"content": {**BODY["content"], "text/event-stream": {"schema": ref("Soup")}}}
PATHS: dict[str, Any] = {
    "/orders": {"post": {"parameters": [{"name": "quick", "in": "query"}], "requestBody": BODY, "responses": {"200": ANSWER}}},
    "/orders/{id}": {"get": {"responses": {"200": BODY}}},
    "/orders/new": {"get": {"responses": {"200": BODY}}},
}
DOCUMENT = OpenApi({"info": {"version": "1"}, "paths": PATHS, "components": {"schemas": SCHEMAS}})
ORDER = {"name": "a", "note": None, "dishes": [{"type": "soup", "salt": 1}, {"type": "menu", "dishes": [{"type": "bread"}]}]}
EVERY_NAME = {
    "Order.name": True,
    "Order.dishes": True,
    "Dish<Soup>": False,
    "Soup.type": True,
    "Soup.salt": False,
    "Dish<Menu>": False,
    "Menu.type": True,
    "Menu.dishes": False,
    "Dish<bread>": False,
    "Dish<bread>.type": True,
    "Dish<bread>.grain": False,
    "Order.note": False,
    "Order.place": False,
    "Order.place.street": False,
}


def seen(body: object) -> tuple[set[str], set[str]]:
    known: set[str] = set()
    unknown: set[str] = set()
    DOCUMENT.observe(body, ref("Order"), "POST /orders", lambda name, _: known.add(name), lambda name, _: unknown.add(name))
    return known, unknown


def test_every_field_has_one_name() -> None:
    names = DOCUMENT.names(ref("Order"), "POST /orders")
    assert names == EVERY_NAME
    below = DOCUMENT.names(ref("Order"), "POST /orders", skip=lambda name: name in ("Dish<Menu>", "Dish<bread>"))
    assert set(EVERY_NAME) - set(below) == {"Menu.type", "Menu.dishes", "Dish<bread>.type", "Dish<bread>.grain"}


def test_a_body_has_the_fields_that_it_has() -> None:
    known, unknown = seen({**ORDER, "place": {"street": "x", "town": "y"}, "tip": 1})
    assert set(EVERY_NAME) - known == {"Order.note", "Dish<bread>.grain"}, "null is no value"
    assert unknown == {"Order.place.town", "Order.tip"}


def test_a_member_that_no_kind_tells_is_all_that_fit() -> None:
    known, _ = seen({"name": "a", "dishes": [{}]})
    assert {"Dish<Soup>", "Dish<Menu>", "Dish<bread>"} <= known
    assert seen({"name": "a", "dishes": [{"type": "cake"}]})[0] == {"Order.name", "Order.dishes"}, "what no kind is, is none"


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [("GET", "/orders/7:x", "GET /orders/{id}"), ("GET", "/orders/new", "GET /orders/new"), ("PUT", "/orders", None), ("GET", "/o", None)],
)
def test_a_path_belongs_to_one_operation(method: str, path: str, name: str | None) -> None:
    found = DOCUMENT.match(method, path)
    assert (found.name if found else None) == name


def overheard(status: int, answer: bytes, *, media_type: str = "application/json", body: Any = ORDER, query: str = "") -> Observed:
    """What a recorder notes of one exchange, whose bytes come through unchanged."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert json.loads((await receive())["body"]) == body
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", media_type.encode())]})
        await send({"type": "http.response.body", "body": answer[:5], "more_body": True})
        await send({"type": "http.response.body", "body": answer[5:]})

    async def exchange() -> bytes:
        sent = []

        async def receive() -> Any:
            return {"type": "http.request", "body": json.dumps(body).encode()}

        async def send(message: Any) -> None:
            sent.append(message.get("body", b""))

        scope = {"type": "http", "method": "POST", "path": "/v1/orders", "query_string": query.encode()}
        await recorder.wrap(app)(scope, receive, send)
        return b"".join(sent)

    recorder = Recorder(DOCUMENT)
    assert asyncio.run(exchange()) == answer
    return recorder.observed


def test_a_good_exchange_is_noted_on_both_sides() -> None:
    noted = overheard(200, b'{"name": "a", "x": 1}', query="quick=&slow=1")
    assert noted.operations == {"POST /orders"}
    assert noted.query == set(), "a parameter without a value is none"
    assert {"Order.name", "Dish<Soup>"} <= noted.accepted
    assert (noted.answered, noted.extra, noted.refused) == ({"Order.name"}, {"Order.x"}, set())
    assert overheard(200, b"{}", query="quick=1").query == {"POST /orders?quick"}


def test_events_of_a_stream_are_answers() -> None:
    answer = b'event: x\ndata: {"type": "soup"}\n\ndata: {"type": "soup", "salt": 1}\n\ndata: [DONE]\n\n'
    assert overheard(200, answer, media_type="text/event-stream; charset=utf-8").answered == {"Soup.type", "Soup.salt"}


@pytest.mark.parametrize(
    ("param", "refused"),
    [
        ("name", {"Order.name"}),
        ("dishes[0].type", {"Soup.type", "Dish<Soup>"}),
        ("dishes[1].dishes[0]", {"Dish<bread>", "Dish<bread>.type"}),
        ("quick", {"POST /orders?quick"}),
        ("nothing", set()),
        (None, set()),
    ],
)
def test_an_error_refuses_what_it_names(param: str | None, refused: set[str]) -> None:
    noted = overheard(400, json.dumps({"error": {"param": param}}).encode())
    assert noted.refused == refused
    assert (noted.accepted, noted.answered, noted.operations) == (set(), set(), set())
    assert overheard(500, json.dumps({"error": {"param": "name"}}).encode()).refused == set()


def test_nothing_is_listed_below_what_is_excepted() -> None:
    rule = ExceptionRule(part="request", how="refused", why="no menus", fields=("Dish<M*",))
    surface = Surface(DOCUMENT, [rule])
    assert "Menu.dishes" not in surface.requests()
    assert "Menu.dishes" in surface.responses()
    assert surface.query() == ["POST /orders?quick"]


def test_what_one_run_misses_is_named() -> None:
    more, less = Observed(accepted={"a", "b"}), Observed(accepted={"b"}, extra={"c"})
    assert less.missing(more) == ["accepted: a"]
    assert Observed.of_json(json.loads(json.dumps(more.as_json()))) == more
