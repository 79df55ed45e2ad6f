"""Texts that a template may write and may not look at: what it writes around them, it writes around every text.

What it does: ``Opaque`` stands for any text that is not empty, has no white space at its ends and holds none of
``Watch.forbidden``. It can be written, added to other texts, and asked what holds of all such texts; whatever else is done with it
is noted in ``Watch.looked``. A rendering that comes through unnoted is the same for all of them but for the texts themselves. What it
does not: find them in what was written (``skeleton.py``). Called by ``template.py`` and ``skeleton.py``.

Python and Jinja could work on such a text without asking it, where they join or format texts in their own code, and what came of it would
be an ordinary text. So ``watched`` makes additions of ``~`` and lets a template call only what is known to ask; ``is_watchable`` refuses
templates that capture what they wrote.
"""

import secrets
from collections.abc import Callable
from typing import Any

from jinja2 import Undefined, nodes
from jinja2.sandbox import SandboxedEnvironment
from jinja2.visitor import NodeTransformer

# What Python needs to have such an object at all.
_FREE = frozenset(
    (
        *("__new__", "__init__", "__init_subclass__", "__subclasshook__", "__class__", "__doc__", "__dict__", "__module__", "__weakref__"),
        *("__getattribute__", "__setattr__", "__delattr__", "__dir__", "__sizeof__"),
        *("__reduce__", "__reduce_ex__", "__getnewargs__", "__getstate__"),
    )
)
# Filters that ask the texts they are given, or pass them on as they are.
_ASKING = frozenset({"trim", "default", "d", "length", "count", "list", "first", "last", "reverse", "items", "selectattr", "rejectattr"})
_CALLED = frozenset({"raise_exception", "strftime_now", "namespace", "range"})
_METHODS = {
    dict: frozenset({"get", "items", "keys", "values"}),
    str: frozenset({"strip", "lstrip", "rstrip", "split", "startswith", "endswith", "replace", "upper", "lower", "title", "capitalize"}),
}
_IN = ("in", "notin")
_CAPTURING = (
    nodes.Macro,
    nodes.CallBlock,
    nodes.AssignBlock,
    nodes.FilterBlock,
    nodes.Import,
    nodes.FromImport,
    nodes.Include,
    nodes.Extends,
)
_CAPTURING += (nodes.Block, nodes.ScopedEvalContextModifier)


class Looked(Exception):
    """A template asked something of a text that does not hold of all texts alike. Not an error of anybody's: it ends an attempt."""


class Watch:
    """What was presumed of the texts of one rendering, beyond that they are not empty and have no white space at their ends."""

    def __init__(self) -> None:
        self.number = str(secrets.randbelow(10**24))
        """Stands in every opaque text, and nowhere else."""
        self.forbidden: set[str] = set()
        """What no text may hold."""
        self.looked = False
        """Whether more was asked. Told by ``Looked`` too, which others may catch."""

    def plain(self, index: int) -> str:
        """What stands in a rendered text for message ``index``. Quotes and letters of both cases: what encodes it changes it."""
        return f'<Aa&"{self.number}:{index}"\\{{%'

    def text(self, index: int) -> "Opaque":
        """The content of message ``index``."""
        return Opaque(self.plain(index)).watched_by(self)


class _Written(str):
    """Something that holds an opaque text."""

    watch: Watch

    def watched_by(self, watch: Watch) -> Any:
        """The same text."""
        self.watch = watch
        return self

    def __str__(self) -> "str":
        return self

    def __bool__(self) -> bool:
        return True

    def __add__(self, other: str) -> str:
        return _Written(str.__add__(self, other)).watched_by(self.watch)

    def __radd__(self, other: str) -> str:
        return _Written(str.__add__(other, self)).watched_by(self.watch)


def _refusing(name: str) -> Callable[..., Any]:
    def refuse(self: _Written, *_args: object, **_named: object) -> Any:
        self.watch.looked = True
        raise Looked(name)

    return refuse


for _name in {*dir(str), "__rmod__", "__rmul__"} - _FREE - set(vars(_Written)):
    setattr(_Written, _name, _refusing(_name))


class Opaque(_Written):
    """One text that nothing is known of."""

    def _stripped(self, characters: str | None = None) -> str:
        if characters is not None and (type(characters) is not str or not characters.isspace()):
            self.watch.looked = True
            raise Looked("strip")
        return self

    strip = lstrip = rstrip = _stripped  # type: ignore[assignment]

    def _without(self, part: object, *more: object) -> bool:
        if more or type(part) is not str or not part:
            self.watch.looked = True
            raise Looked("find")
        self.watch.forbidden.add(part)
        return False

    __contains__ = startswith = endswith = _without  # type: ignore[assignment]

    def split(self, separator: str | None = None, *more: object) -> list[str]:  # type: ignore[override]
        """The text alone: it does not hold the separator."""
        self._without(separator, *more)
        return [self]

    def replace(self, old: str, new: str, *more: object) -> str:  # type: ignore[override]
        """The text itself: it does not hold the old part."""
        self._without(old, *more)
        return self


class _Asking(NodeTransformer):
    """Operations that would not ask, as such that do: ``a ~ b`` as an addition of texts, ``a in b`` as a test."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:
        """Replace one ``~``."""
        parts: list[nodes.Expr] = [nodes.Filter(self.visit(part), "string", [], [], None, None, lineno=node.lineno) for part in node.nodes]
        added = parts[0]
        for part in parts[1:]:
            added = nodes.Add(added, part, lineno=node.lineno)
        return added

    def visit_Compare(self, node: nodes.Compare) -> nodes.Expr:
        """Replace one ``in`` or ``not in``."""
        self.generic_visit(node)
        if len(node.ops) != 1 or node.ops[0].op not in _IN:
            return node
        test = nodes.Test(node.expr, "in", [node.ops[0].expr], [], None, None, lineno=node.lineno)
        return test if node.ops[0].op == "in" else nodes.Not(test, lineno=node.lineno)


def watched(environment: type[SandboxedEnvironment]) -> type[SandboxedEnvironment]:
    """A kind of environment whose templates ask opaque texts before they do anything with them."""

    class Watched(environment):
        intercepted_binops = frozenset({"%"})

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            for name in self.filters.keys() - _ASKING:
                self.filters[name] = _no_filter
            self.filters["string"] = _string
            self.tests["in"] = _is_in

        def _generate(self, source: nodes.Template, *args: Any, **named: Any) -> str:
            return super()._generate(_Asking().visit(source), *args, **named)

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if isinstance(left, str):
                raise Looked("format")
            return super().call_binop(context, operator, left, right)

        def call(self, context: Any, obj: Any, /, *args: Any, **named: Any) -> Any:
            owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
            known = isinstance(owner, Opaque) or name in _METHODS.get(type(owner), ())
            if not known and not any(obj is self.globals.get(name) for name in _CALLED):
                raise Looked("call")
            # Of a list or a tuple an opaque text could be taken unasked.
            if any(isinstance(value, _Written | list | tuple) for value in (*args, *named.values())):
                raise Looked("call")
            return super().call(context, obj, *args, **named)

    return Watched


def is_watchable(tree: nodes.Template) -> bool:
    """Whether a template captures nothing that it wrote, to go on working with it."""
    chained = any(len(node.ops) > 1 and any(op.op in _IN for op in node.ops) for node in tree.find_all(nodes.Compare))
    return not (chained or any(True for _ in tree.find_all(_CAPTURING)) or any(loop.recursive for loop in tree.find_all(nodes.For)))


def _no_filter(*_args: object, **_named: object) -> Any:
    raise Looked("filter")


def _string(value: Any) -> str:
    if isinstance(value, _Written):
        return value
    if type(value) not in (str, int, float, bool) and not isinstance(value, Undefined):  # a list may hold one
        raise Looked("string")
    return str(value)


def _is_in(value: Any, where: Any) -> bool:
    if isinstance(value, _Written):
        raise Looked("in")
    return value in where
