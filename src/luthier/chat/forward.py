"""Templates that look at nothing ahead: what they write of a message depends on it and on those before it alone.

What it does: proves this from a template's syntax, and then gives from one rendering where each message begins; so the prompts of
a talk of many answers need not be rendered one by one. What it does not: guess. A template with anything that it does not know to be
harmless is not forward, and is rendered prefix by prefix. Called by ``template.py``.

Proof: the only loop over the messages stands at the top; outside of it only the first message is read; inside it nothing of
``loop`` but ``first``, ``index`` and ``index0``; whether a generation prompt is wanted is asked after it only, and nothing is read there
that the loop changes. Then the text of a talk is the text before the loop, a text for each message, and the text
after it, and a shorter talk has the same first parts.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from jinja2 import Environment, nodes

_BEHIND = frozenset({"first", "index", "index0"})
# What calls other code, or ends the loop early.
_UNKNOWN = (nodes.Macro, nodes.CallBlock, nodes.Import, nodes.FromImport, nodes.Include, nodes.Extends, nodes.Block, nodes.Break)
_PROMPT = "add_generation_prompt"


def with_borders(environment: Environment, source: str, border: str) -> nodes.Template | None:
    """The template's syntax with ``border`` written before each message and after the last one; None when it is not forward."""
    tree = environment.parse(source)
    loops = [i for i, node in enumerate(tree.body) if isinstance(node, nodes.For) and _is_messages(node.iter, _names(tree.body[:i]))]
    if len(loops) != 1 or any(True for _ in tree.find_all(_UNKNOWN)):
        return None
    at = loops[0]
    loop = tree.body[at]
    assert isinstance(loop, nodes.For)
    before, after = tree.body[:at], tree.body[at + 1 :]
    names = _names(before)
    if loop.test is not None or loop.else_ or loop.recursive or not isinstance(loop.target, nodes.Name):
        return None
    if not all(_reads_first_only(node, names) for node in (*before, *loop.body)) or not _looks_back_only(loop.body):
        return None
    if any(name.name == _PROMPT for node in (*before, *loop.body) for name in _all(node, nodes.Name)):
        return None
    changed = {name for node in loop.body for name in _assigned(node)}
    if changed & (names | {"loop", _PROMPT}):
        return None
    if any(name.name in changed | names | {"loop"} for node in after for name in _all(node, nodes.Name)):
        return None
    mark = nodes.Output([nodes.TemplateData(border)])
    loop.body.insert(0, mark)
    tree.body.insert(at + 1, nodes.Output([nodes.TemplateData(border)]))
    return tree


def borders_of(text: str, border: str) -> tuple[str, list[int]]:
    """The text without its borders, and where they stood."""
    parts = text.split(border)
    positions: list[int] = []
    length = 0
    for part in parts[:-1]:
        length += len(part)
        positions.append(length)
    return "".join(parts), positions


def _names(before: Sequence[nodes.Node]) -> set[str]:
    """Names that stand for the messages, or for all but the first."""
    names = {"messages"}
    for node in before:
        for assign in _all(node, nodes.Assign):
            if _is_messages(assign.node, names) and isinstance(assign.target, nodes.Name):
                names.add(assign.target.name)
    return names


def _is_messages(node: nodes.Node, names: set[str]) -> bool:
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
        part = node.arg
        whole = isinstance(part.start, nodes.Const) and part.start.value == 1 and part.stop is None and part.step is None
        return whole and isinstance(node.node, nodes.Name) and node.node.name in names
    return isinstance(node, nodes.Name) and node.name in names


def _reads_first_only(node: nodes.Node, names: set[str]) -> bool:
    """Whether every use of the messages is ``messages[0]``, or gives them a name."""
    if isinstance(node, nodes.Assign) and isinstance(node.target, nodes.Name) and _is_messages(node.node, names):
        return True
    if isinstance(node, nodes.Getitem) and isinstance(node.node, nodes.Name) and node.node.name in names:
        return isinstance(node.arg, nodes.Const) and node.arg.value == 0
    if isinstance(node, nodes.Name):
        return node.name not in names
    return all(_reads_first_only(child, names) for child in node.iter_child_nodes())


def _looks_back_only(body: Sequence[nodes.Node]) -> bool:
    """Whether of the outer ``loop`` nothing is read but what lies behind."""
    for node in body:
        if isinstance(node, nodes.For):
            # Inside another loop the name means that one; what it goes over is still read in this one.
            if not _looks_back_only([node.iter]):
                return False
        elif isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name) and node.node.name == "loop":
            if node.attr not in _BEHIND:
                return False
        elif (isinstance(node, nodes.Name) and node.name == "loop") or not _looks_back_only(list(node.iter_child_nodes())):
            return False
    return True


def _assigned(node: nodes.Node) -> set[str]:
    """Names that get a value, and those of namespaces that do."""
    return {name.name for name in _all(node, nodes.Name) if name.ctx == "store"} | {ref.name for ref in _all(node, nodes.NSRef)}


_N = TypeVar("_N", bound=nodes.Node)


def _all(node: nodes.Node, kind: type[_N]) -> Iterator[_N]:
    if isinstance(node, kind):
        yield node
    yield from node.find_all(kind)
