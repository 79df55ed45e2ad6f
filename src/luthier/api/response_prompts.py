"""From checked bodies of responses to what the engine is asked. Pure.

What it does: refuses what would change the answer and is not offered, puts instructions, earlier turns and new input
together, makes the ``Generate``, and the shorter ones that ``truncation: auto`` may fall back to. What it does not: read
stored responses or generate. Called by ``routes/responses.py`` and ``response_run.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from luthier.api.offered_tools import ToolForm, allowed_functions, cannot_force, only_allowed
from luthier.api.response_items import Item, messages_of
from luthier.api.schemas.responses import InputTokensRequest, ResponseRequest, ResponseTool
from luthier.core.engine_messages import Generate
from luthier.core.errors import InvalidRequest
from luthier.core.generation import ModelTarget, SamplingParams

LOGPROBS = "message.output_text.logprobs"
Body = ResponseRequest | InputTokensRequest


def _unsupported_value(param: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"Unsupported value: '{param}' {message}", code="unsupported_value", param=param)


def _unsupported_parameter(param: str) -> InvalidRequest:
    return InvalidRequest(f"Unsupported parameter: '{param}' is not supported with this model.", code="unsupported_parameter", param=param)


def _refuse_tools(tools: Sequence[ResponseTool]) -> None:
    for i, tool in enumerate(tools):
        if tool.type != "function":
            raise _unsupported_value(
                f"tools[{i}].type", f"does not support '{tool.type}' with this model. Supported values are: 'function'."
            )
        if tool.name is None:
            name = f"tools[{i}].name"
            raise InvalidRequest(f"Missing required parameter: '{name}'.", code="missing_required_parameter", param=name)


def refuse_unoffered(body: Body) -> None:
    """Refuse what would change the answer and is not offered.

    Raises:
        InvalidRequest: naming the field.
    """
    if body.text is not None and body.text.format is not None and body.text.format.type != "text":
        kind = body.text.format.type
        raise _unsupported_value("text.format.type", f"does not support '{kind}' with this model. Supported values are: 'text'.")
    _refuse_tools(body.tools or ())
    offered_tools(body)
    if body.conversation is not None:
        raise _unsupported_parameter("conversation")
    if isinstance(body, ResponseRequest):
        if body.background:
            raise _unsupported_value("background", "does not support true with this model. Supported values are: false.")
        for name in ("prompt", "context_management", "moderation"):
            if getattr(body, name) is not None:
                raise _unsupported_parameter(name)
        if body.stream_options is not None and not body.stream:
            message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
            raise InvalidRequest(message, code="invalid_parameter_combination", param="stream_options")


def refuse_nothing_to_answer(body: Body) -> None:
    """Refuse a request without any input.

    Raises:
        InvalidRequest: neither new input nor an earlier response is given.
    """
    if body.previous_response_id is None and (body.input is None or body.input == []):
        message = 'One of "input" or "previous_response_id" must be provided.'
        raise InvalidRequest(message, code="missing_required_parameter", param="input")


def offered_tools(body: Body) -> tuple[ToolForm, ...]:
    """The tools that the model is shown, as chat's requests and training rows have them: all, those that are allowed, or none.

    Raises:
        InvalidRequest: the choice forces a call, or is none that OpenAI knows.
    """
    choice = body.tool_choice
    if choice == "none":
        return ()
    functions = (tool.model_dump(exclude_unset=True, exclude={"type"}) for tool in body.tools or ())
    tools = tuple({"type": "function", "function": function} for function in functions)
    if choice is None or choice == "auto":
        return tools
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        return only_allowed(tools, allowed_functions(choice))
    if choice == "required" or isinstance(choice, dict):
        raise cannot_force()
    message = f"Invalid value: {str(choice)[:64]!r}. Supported values are: 'none', 'auto' and 'required', or an object."
    raise InvalidRequest(message, code="invalid_value", param="tool_choice")


def instruction_messages(body: Body) -> tuple[dict[str, Any], ...]:
    """The instructions as the first message; those of an earlier response are not among the items and so never come back."""
    return ({"role": "system", "content": body.instructions},) if body.instructions else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One response that is to be generated."""

    target: ModelTarget
    sampling: SamplingParams
    instructions: tuple[dict[str, Any], ...]
    turns: tuple[dict[str, Any], ...]
    """Messages of the earlier turns and of the new input."""
    tools: tuple[ToolForm, ...] = ()
    may_truncate: bool = False

    def request(self, num_dropped: int = 0) -> Generate:
        """What the engine is asked, without the first ``num_dropped`` messages and without outputs whose call went with them."""
        turns = self.turns[num_dropped:]
        while num_dropped and len(turns) > 1 and turns[0]["role"] == "tool":
            turns = turns[1:]
        return Generate(
            target=self.target,
            sampling=self.sampling,
            messages=(*self.instructions, *turns),
            tools=self.tools,
            parse_tool_calls=bool(self.tools),
        )


def question_of(body: ResponseRequest, target: ModelTarget, context: Sequence[Item]) -> Question:
    """The question that ``body`` asks of ``target`` after the items of ``context`` (earlier turns and new input)."""
    sampling = SamplingParams(
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        max_tokens=body.max_output_tokens,
        top_logprobs=(body.top_logprobs or 0) if LOGPROBS in (body.include or ()) else None,
    )
    return Question(
        target=target,
        sampling=sampling,
        instructions=instruction_messages(body),
        turns=tuple(messages_of(context)),
        tools=offered_tools(body),
        may_truncate=body.truncation == "auto",
    )
