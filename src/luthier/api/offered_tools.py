"""Which tools a model is shown: what a request offers, and what its choice leaves of it. Pure.

What it does: the tools of chats and of responses in the one form that templates render, chat's deprecated ``functions`` among
them; refuses choices that force a call. What it does not: read the calls of an answer (``chat/tool_calls.py`` does). Called by
``prompts.py``, ``response_prompts.py`` and ``stored.py``.
"""

from collections.abc import Sequence
from typing import Any

from luthier.api.schemas.chat import ChatRequest
from luthier.core.errors import InvalidRequest

ToolForm = dict[str, Any]
"""``{"type": "function", "function": {...}}``, as chats have it and training rows too."""


def given_tools(body: ChatRequest) -> tuple[ToolForm, ...]:
    """All tools of a chat: ``tools``, or the deprecated ``functions`` as tools."""
    if body.functions is not None:
        return tuple({"type": "function", "function": function.model_dump(exclude_unset=True)} for function in body.functions)
    return tuple(tool.model_dump(exclude_unset=True) for tool in body.tools or ())


def shown_tools(body: ChatRequest) -> tuple[ToolForm, ...]:
    """The tools that the model is shown: all, those that the choice allows, or none.

    Raises:
        InvalidRequest: the choice forces a call, is none that OpenAI knows, or stands beside the other form of tools.
    """
    _refuse_both_forms(body)
    _refuse_forced_function(body.function_call)
    if body.function_call == "none":
        return ()
    choice, tools = body.tool_choice, given_tools(body)
    if choice is None or choice == "auto":
        return tools
    if choice == "none":
        return ()
    kind = choice.get("type") if isinstance(choice, dict) else None
    if choice == "required" or kind in ("function", "custom"):
        raise cannot_force()
    if kind != "allowed_tools":
        message = f"Invalid value: {str(choice)[:64]!r}. Supported values are: 'none', 'auto' and 'required', or an object."
        raise InvalidRequest(message, code="invalid_value", param="tool_choice")
    allowed = choice.get("allowed_tools")
    names = _allowed_names(allowed, "tool_choice.allowed_tools", "function")
    return only_allowed(tools, names)


def allowed_functions(choice: dict[str, Any]) -> frozenset[str]:
    """The functions that an ``allowed_tools`` choice of a response names: there its fields stand beside its type.

    Raises:
        InvalidRequest: it is malformed, or forces a call.
    """
    return _allowed_names(choice, "tool_choice", None)


def only_allowed(tools: Sequence[ToolForm], names: frozenset[str]) -> tuple[ToolForm, ...]:
    """The tools of these names, in their order.

    Raises:
        InvalidRequest: there are no tools, or none of such a name.
    """
    if not tools:
        message = "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified."
        raise InvalidRequest(message, code="invalid_value", param="tool_choice")
    unknown = names - {tool["function"]["name"] for tool in tools}
    if unknown:
        message = f"Tool choice '{min(unknown)[:64]}' not found in 'tools' parameter."
        raise InvalidRequest(message, code="invalid_value", param="tool_choice")
    return tuple(tool for tool in tools if tool["function"]["name"] in names)


def cannot_force(param: str = "tool_choice") -> InvalidRequest:
    """The refusal of a choice that forces a call."""
    name = param.partition(".")[0]
    message = f"Unsupported value: '{name}' cannot force a call with this model. Supported values are: 'auto' and 'none'."
    return InvalidRequest(message, code="unsupported_value", param=param)


def _allowed_names(allowed: object, param: str, inside: str | None) -> frozenset[str]:
    """Names of the entries; ``inside`` is the entry's field that holds the name, None where the entry itself does."""
    entries = allowed.get("tools") if isinstance(allowed, dict) else None
    if not isinstance(allowed, dict) or not isinstance(entries, list) or allowed.get("mode") not in ("auto", "required"):
        message = f"Invalid value for '{param}': expected an object with a 'mode' of 'auto' or 'required', and 'tools'."
        raise InvalidRequest(message, code="invalid_value", param=param)
    if allowed["mode"] == "required":
        raise cannot_force(f"{param}.mode")
    named = [entry.get(inside) if isinstance(entry, dict) and inside else entry for entry in entries]
    return frozenset(one["name"] for one in named if isinstance(one, dict) and isinstance(one.get("name"), str))


def _refuse_both_forms(body: ChatRequest) -> None:
    """``tools`` with ``tool_choice``, or ``functions`` with ``function_call``: an answer has one form."""
    if body.functions is not None:
        for name in ("tools", "tool_choice"):
            if getattr(body, name) is not None:
                message = f"'functions' is deprecated and cannot be used together with '{name}'. Use 'tools' and 'tool_choice' alone."
                raise InvalidRequest(message, code="invalid_parameter_combination", param="functions")
    elif body.tools and body.function_call is not None:
        message = "'function_call' belongs to the deprecated 'functions'. Use 'tool_choice' with 'tools'."
        raise InvalidRequest(message, code="invalid_parameter_combination", param="function_call")


def _refuse_forced_function(choice: object) -> None:
    if choice in (None, "auto", "none"):
        return
    if isinstance(choice, dict) and isinstance(choice.get("name"), str):
        raise cannot_force("function_call")
    message = f"Invalid value: {str(choice)[:64]!r}. Supported values are: 'none' and 'auto', or an object with a 'name'."
    raise InvalidRequest(message, code="invalid_value", param="function_call")
