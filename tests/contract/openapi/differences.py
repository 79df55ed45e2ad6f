"""Where answers may differ from what a document says: each with its name and its reason, and nothing wider.

``Answer.check`` is schemathesis' name of what it found: ``RejectedPositiveData`` is a request that fits the document and was
refused, ``AcceptedNegativeData`` one that does not fit and was answered.
"""

import re

from tests.contract.openapi.openai_document import openai_document, property_names
from tests.support.schema_runs import Answer, Difference

_KNOWN_TO_OPENAI = property_names(openai_document())
_HARMLESS = re.compile(r"query: violates `additionalProperties`|header: violates .*Authorization.*")


def _harmless(answer: Answer) -> bool:
    _, _, parts = " ".join(answer.failure.message.split()).partition("Invalid component: ")
    return answer.check == "AcceptedNegativeData" and all(_HARMLESS.fullmatch(p) for p in parts.removeprefix("- ").split(" - "))


def _refused(answer: Answer, *codes: str) -> bool:
    return answer.check == "RejectedPositiveData" and (answer.error.get("code") in codes or not codes)


def _message(answer: Answer) -> str:
    return str(answer.error.get("message", ""))


def _names_nothing(answer: Answer) -> bool:
    if not _refused(answer):
        return False
    of_upload = answer.operation.endswith("/complete") and str(answer.error.get("param")).startswith("part_ids")
    codes = ("model_not_available", "previous_response_not_found", "alias_of_alias")
    return (
        of_upload
        or answer.error.get("code") in codes
        or _message(answer).startswith(
            (
                "invalid training_file",
                "invalid validation_file",
                "No stored chat completion matches",
                "None of the",
                "No such project",
                "Item with id",
                "No tool call",
            )
        )
    )


def _has_decimal_prompt(answer: Answer) -> bool:
    prompt = answer.case.body.get("prompt") if isinstance(answer.case.body, dict) else None
    return isinstance(prompt, list) and any(
        isinstance(token, float) for part in prompt for token in (part if isinstance(part, list) else [part])
    )


def _wrong_state(answer: Answer) -> bool:
    ends = ("/cancel", "/pause", "/resume", "/rollback", "/complete", "/parts", "/rotate_secret")
    codes = ("model_has_alias", "alias_exists", "alias_in_settings", "no_earlier_target")
    state = answer.operation.endswith(ends) and answer.error.get("param") in (None, "part_ids") and answer.error.get("code") is None
    return _refused(answer) and (state or answer.error.get("code") in codes)


def _unknown_field(answer: Answer) -> bool:
    if not _refused(answer, "unknown_parameter"):
        return False
    match = re.search(r"Unknown parameter: '(.*)'\.$", _message(answer), re.DOTALL)
    assert match is not None
    return match[1].rsplit(".", 1)[-1] not in _KNOWN_TO_OPENAI


_EVERYWHERE = (
    Difference(
        "1.0 is no integer",
        "JSON Schema counts 1.0 as an integer. Validators in OpenAI's manner do not convert types.",
        lambda a: (
            _refused(a, "invalid_type") and ("expected an integer, but got a decimal number" in _message(a) or _has_decimal_prompt(a))
        ),
    ),
    Difference("names nothing", "A document cannot say which ids exist: to it every text is one.", _names_nothing),
    Difference("wrong state", "A document cannot say what an object allows in its state.", _wrong_state),
    Difference(
        "not offered",
        "What would change an answer and is not there is refused by name (reference, section 4.2).",
        lambda a: _refused(a, "unsupported_value", "unsupported_parameter"),
    ),
    Difference(
        "fields together",
        "Rules between fields stand in no schema.",
        lambda a: (
            _refused(a, "invalid_parameter_combination")
            or (_refused(a, "invalid_value") and a.error.get("param") == "tool_choice" and "'tools'" in _message(a))
            or (_refused(a) and ("One of" in _message(a) or "is not one of 'labels'" in _message(a)))
        ),
    ),
    Difference(
        "an answer needs content",
        "Content may be null beside calls and refusals only; which ones a schema cannot tell.",
        lambda a: _refused(a, "invalid_type") and bool(re.search(r"\.content'.*but got null", _message(a))),
    ),
    Difference(
        "roles",
        "What a message needs depends on its role.",
        lambda a: (
            _refused(a, "missing_required_parameter", "string_below_min_length")
            and bool(re.fullmatch(r"messages\[\d+\]\.(name|tool_call_id)", str(a.error["param"])))
        ),
    ),
    Difference(
        "contents of files",
        "Lines and names of files are checked by purpose (reference, section 1.2).",
        lambda a: (
            _refused(a)
            and a.operation.endswith(("/files", "/uploads", "/complete", "/parts", "/fix", "/redact", "/import"))
            and a.error.get("code") is None
        ),
    ),
    Difference(
        "metadata is text",
        "In a query every value is text and a key may hold brackets: a number, a null or an object inside arrives as a text.",
        lambda a: (
            a.check == "AcceptedNegativeData"
            and re.search(r"`metadata` in query - violates `(additionalProperties|anyOf)`", " ".join(a.failure.message.split())) is not None
        ),
    ),
    Difference(
        "only the URL and the key are odd",
        "Unknown query parameters are left alone: the client's `extra_query` may carry any. The key is sent whatever was drawn.",
        _harmless,
    ),
    Difference(
        "forms are text",
        "In a form a number or an object in place of the file is a file like any other.",
        lambda a: a.check == "AcceptedNegativeData" and a.operation.endswith(("POST /files", "POST /v1/files", "/parts")),
    ),
)

FROM_OURS: tuple[Difference, ...] = (
    *_EVERYWHERE,
    Difference(
        "sizes by settings",
        "How large an upload may be is a setting of the server, and by purpose.",
        lambda a: _refused(a, "integer_above_max_value") and a.operation == "POST /v1/uploads" and a.error.get("param") == "bytes",
    ),
    Difference(
        "sources of imports",
        "A source begins with hf://, and the server's settings allow it.",
        lambda a: _refused(a, "invalid_value") and a.operation == "POST /v1/luthier/datasets/import" and a.error.get("param") == "source",
    ),
    Difference(
        "addresses",
        "Which addresses webhooks may go to is a rule about networks (`api/webhooks/addresses.py`).",
        lambda a: _refused(a, "invalid_value") and "/webhook_endpoints" in a.operation and a.error.get("param") == "url",
    ),
    Difference(
        "one prompt",
        "Exactly one of `messages` and `prompt` is given.",
        lambda a: (
            _refused(a, "missing_required_parameter") and a.operation == "POST /v1/luthier/trace" and a.error.get("param") == "messages"
        ),
    ),
    Difference(
        "names of aliases",
        "An alias is named like a model (`core/aliases.py`).",
        lambda a: _refused(a, "invalid_value") and a.operation == "POST /v1/luthier/aliases" and a.error.get("param") == "name",
    ),
    Difference(
        "not ready",
        "503 is how /readyz says that no worker runs; its body is checked.",
        lambda a: a.operation == "GET /readyz" and a.check == "ServerError" and a.response.status_code == 503,
    ),
)
FROM_OPENAI: tuple[Difference, ...] = (
    *_EVERYWHERE,
    Difference(
        "token ids",
        "Token ids and the keys of logit_bias are non-negative integers, and a prompt has at least one; the document takes any.",
        lambda a: _refused(a, "invalid_type", "invalid_value") and a.error.get("param") in ("prompt", "logit_bias"),
    ),
    Difference(
        "names in forms",
        "The wire's names are `expires_after[anchor]` and `expires_after[seconds]` (reference, section 1.2), which no schema can say.",
        lambda a: _refused(a, "unknown_parameter") and a.operation == "POST /files" and str(a.error.get("param")) == "expires_after",
    ),
    Difference(
        "no filter",
        "An empty `metadata` filters nothing, and `metadata=null` asks for objects without any (reference, section 2.4).",
        lambda a: a.check == "AcceptedNegativeData" and re.search(r"[?&]metadata=(null)?(&|$)", str(a.response.request.url)) is not None,
    ),
    Difference(
        "names of functions",
        "Letters, digits, underscores and dashes: the document says so of chat's tools in words, and forgets it elsewhere.",
        lambda a: _refused(a, "invalid_value") and re.fullmatch(r"(tools|functions)\[\d+\]\.name", str(a.error.get("param"))) is not None,
    ),
    Difference(
        "a body is needed",
        "The document lets the body be left out, although it must name a model.",
        lambda a: _refused(a, "unsupported_content_type") and not a.response.request.body,
    ),
    Difference("unknown fields", "The document does not forbid unknown fields; OpenAI and we do (decision D6).", _unknown_field),
    Difference(
        "bounds",
        "Every number, text and list has a bound here, where the document often has none.",
        lambda a: _refused(a) and re.search(r"_(below_min|above_max)_", str(a.error.get("code"))) is not None,
    ),
    Difference(
        "a model is needed",
        "The document lets responses go without one, for stored prompts, which are not offered.",
        lambda a: (
            _refused(a, "missing_required_parameter", "invalid_type") and a.error.get("param") == "model" and "/responses" in a.operation
        ),
    ),
)
