"""Training examples and where each came from. Made by ``data``, read by ``preprocessing`` and ``evaluation``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from luthier.core.conversation import Conversation, Message


@dataclass(frozen=True, slots=True)
class SourceLine:
    """The thread through the house: the user's file and the 1-based line in it."""

    file_id: str
    line: int


class RowFormat(StrEnum):
    """The shape of a file's rows."""

    CHAT = "chat"
    """``{"messages": [...]}``"""
    PROMPT_COMPLETION = "prompt_completion"
    """``{"prompt": "...", "completion": "..."}``"""
    PREFERENCE = "preference"
    """``{"input": {"messages": [...]}, "preferred_output": [...], "non_preferred_output": [...]}``"""
    REINFORCEMENT = "reinforcement"
    """``{"messages": [..., the question], any other keys}``"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SftExample:
    """One supervised example. A prompt/completion row is one user and one assistant message."""

    source: SourceLine
    conversation: Conversation


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceExample:
    """Two answers to one prompt, of which the first is the better one."""

    source: SourceLine
    prompt: Conversation
    preferred: Message
    non_preferred: Message

    @property
    def conversation(self) -> Conversation:
        """The prompt with the preferred answer: what is shown and asked where one answer is enough."""
        return _answered(self.prompt, self.preferred)

    @property
    def other(self) -> Conversation:
        """The prompt with the answer that is not preferred."""
        return _answered(self.prompt, self.non_preferred)


def _answered(prompt: Conversation, answer: Message) -> Conversation:
    """Weight stands on the answer alone: what the prompt's own assistant messages say is context, whatever their weight."""
    read_only = tuple(replace(message, weight=0.0) for message in prompt.messages)
    return replace(prompt, messages=(*read_only, replace(answer, weight=1.0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class RlExample:
    """A prompt whose answers a grader will judge."""

    source: SourceLine
    prompt: Conversation
    reference: Mapping[str, Any] = field(default_factory=dict)
    """The row's other keys, as the file has them; graders read them as ``item``."""


TunableExample = SftExample | PreferenceExample
"""What a fine-tuning job trains on today."""
Example = SftExample | PreferenceExample | RlExample


def conversations_of(example: TunableExample) -> tuple[Conversation, ...]:
    """The conversations that training reads of an example: one, or the preferred and then the other one."""
    return (example.conversation, example.other) if isinstance(example, PreferenceExample) else (example.conversation,)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineError:
    """A fault in one line, as a value: it is counted and shown, not raised."""

    source: SourceLine
    code: str
    """OpenAI's error code for the job, such as ``invalid_file_format``."""
    message: str
    """The fault in the API's own wording, without the leading sentence about the job."""
    path: str = ""
    """JSON path of the faulty value, such as ``messages[1].role``; empty for the whole line."""
    rule: str = "not_json"
    """Our own stable code, of ``core/data_faults.py``."""
    column: int = 0
    """1-based byte column of the value in its line (of what surrounds it, where it is missing); 0 when it was not looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """All examples of one file."""

    file_id: str
    row_format: RowFormat
    examples: Sequence[TunableExample]
    """In the file's order. Each may be read from the file when it is asked for."""
    num_lines: int
    fingerprint: str
    """SHA-256 of the file's bytes."""
