"""Every fault that a training file can have: its stable code, how grave it is, what it means and what to do about it.

What it does not: find faults (``data/`` does) or show them (``cli/`` does). ``docs/guides/check-your-data.md`` lists the same
codes (a test compares). Codes are never renamed and never used again for something else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How grave a finding is."""

    ERROR = "error"
    """A job with this file fails."""
    WARNING = "warning"
    """A job takes the file, and does what its author may not have meant."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of fault."""

    code: str
    meaning: str
    cure: str
    severity: Severity = Severity.ERROR


_OF_FILE = (
    Rule("too_few_examples", "The file has fewer examples than a job needs.", "Add rows: a training file needs 10, a validation file 1."),
    Rule(
        "too_many_examples",
        "A file for reinforcement has more rows than a job takes.",
        "Keep at most 50,000 rows for training and 1,000 for validation.",
    ),
    Rule("compressed_file", "The file is compressed or an archive.", "Unpack it first (gunzip, unzip, xz -d) and use the JSONL inside."),
    Rule("utf16_file", "The file is UTF-16 or UTF-32.", "Save it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE > NEW."),
    Rule("json_array_file", "The file is one JSON array.", "Write one object per line: jq -c '.[]' FILE > NEW.jsonl."),
    Rule("pretty_printed", "Objects are spread over several lines.", "Write each object on one line: jq -c . FILE > NEW.jsonl."),
    Rule("cr_line_ends", "Lines end with a carriage return alone.", "Use line feeds: tr '\\r' '\\n' < FILE > NEW."),
    Rule("blank_line", "An empty line stands between rows; an upload refuses it.", "Remove the empty lines."),
    Rule("byte_order_mark", "The file begins with a byte order mark, which is skipped.", "Save it as UTF-8 without BOM.", Severity.WARNING),
)
_OF_LINE = (
    Rule("line_too_long", "A line is longer than the server takes.", "Shorten the row, or raise LUTHIER_MAX_LINE_BYTES."),
    Rule("not_utf8", "A byte is not valid UTF-8.", "Find the encoding and convert: iconv -f LATIN1 -t UTF-8 FILE > NEW."),
    Rule("lone_surrogate", "An escape is half of a character.", "Write the pair of escapes, or the character itself in UTF-8."),
    Rule("control_character", "A raw control character stands inside a string.", "Escape it: \\n for a new line, \\t for a tab."),
    Rule(
        "number_not_finite",
        "A number is NaN, infinite or too large.",
        "Use a finite number, null or a string; Python's json.dumps writes NaN.",
    ),
    Rule("nested_too_deep", "Brackets are nested too deeply.", "Flatten the value."),
    Rule("trailing_comma", "A comma stands before a closing bracket.", "Remove the comma."),
    Rule("single_quotes", "Strings are in single quotes.", "Use double quotes: write rows with json.dumps, not with str or print."),
    Rule("smart_quotes", "Quotes are typographic.", 'Use the straight double quote ".'),
    Rule("python_literal", "True, False or None stand where JSON has true, false, null.", "Write rows with json.dumps."),
    Rule("cut_off", "The line ends in the middle of a value.", "Complete the row; a new line inside a string must be written \\n."),
    Rule("extra_content", "Something follows the object on its line.", "Put each object on a line of its own."),
    Rule("not_json", "The line is not JSON.", "Write rows with a JSON library."),
    Rule("not_an_object", "The line is JSON, but not an object.", "Each line must be one object in braces."),
    Rule("duplicate_key", "A key stands twice in an object; the last one counts.", "Keep one of the two.", Severity.WARNING),
)
_OF_ROW = (
    Rule("missing_key", "The row lacks a key that its format needs.", "Add the key."),
    Rule("extra_key", "The row has a key that its format does not know.", "Remove the key; metadata does not belong in the row."),
    Rule("mixed_formats", "The row has another format than the rows before.", "Put rows of each format in a file of their own."),
    Rule("wrong_method", "The row belongs to another method than the one asked for.", "Use --method of these rows, or other rows."),
    Rule("bad_messages", "'messages' is not a list of at least one message.", "Make it a list of objects with role and content."),
    Rule("bad_parallel_tool_calls", "'parallel_tool_calls' is not true or false.", "Use true or false, or leave it out."),
    Rule("bad_tools", "'tools' or 'functions' is not a list of 1 to 128 entries.", "Leave an empty list out; offer at most 128."),
    Rule("bad_tool", "A tool's 'type' is not 'function'.", 'Write {"type": "function", "function": {...}}.'),
    Rule("bad_function", "An offered function has no name, or parameters that are not an object.", "Give name and a JSON schema."),
    Rule(
        "no_assistant",
        "There is no assistant message, so nothing to learn from.",
        "End the row with the answer to learn; rows without answers are for --method reinforcement.",
    ),
    Rule("no_trained_assistant", "Every assistant message has weight 0.", "Give the answer to learn weight 1, or leave the weight out."),
    Rule("bad_text", "A prompt or completion is not a string.", "Make it a string."),
    Rule("empty_completion", "The completion is empty, so nothing to learn from.", "Write the answer, or remove the row."),
    Rule(
        "bad_input", "'input' is not an object with 'messages'.", 'Write {"messages": [...]}, with tools beside messages if there are any.'
    ),
    Rule("bad_output", "A preferred or non-preferred output is not a list of one message.", "Give exactly one assistant message."),
    Rule("output_not_assistant", "An output's role is not 'assistant'.", "Set the role to assistant."),
    Rule("output_not_text", "An output has tool calls; preferences are over text only.", "Use an answer in words."),
    Rule("same_outputs", "Both outputs are the same, so no preference.", "Remove the row or correct one output.", Severity.WARNING),
    Rule(
        "last_not_user",
        "A reinforcement row does not end with a user message.",
        "Remove the answer; its reference goes in a key of its own.",
    ),
)
_OF_MESSAGE = (
    Rule("message_not_object", "A message is not an object.", "Write it as an object with role and content."),
    Rule("missing_role", "A message has no role.", "Add role: system, developer, user, assistant, tool or function."),
    Rule(
        "unknown_role",
        "A role is not known.",
        "Use system, developer, user, assistant, tool or function: human is user, gpt and bot are assistant.",
    ),
    Rule("message_extra_key", "A message has a key that is not known.", "Remove the key."),
    Rule("bad_name", "A 'name' is not a string.", "Make it a string or leave it out."),
    Rule("missing_name", "A function message has no name.", "Name the function that answered."),
    Rule("missing_tool_call_id", "A tool message has no 'tool_call_id'.", "Give the id of the call that it answers."),
    Rule("bad_weight", "A 'weight' is not 0 or 1.", "Use 0 (only read) or 1 (learned)."),
    Rule("bad_refusal", "A 'refusal' is not a string.", "Make it a string or leave it out."),
    Rule("missing_content", "A message has no content.", "Add content; only an assistant message with tool calls may lack it."),
    Rule("empty_assistant", "An assistant message is empty and calls no tool.", "Write the answer, or remove the message."),
    Rule("bad_content", "A content is neither a string nor a list of parts.", "Make it a string."),
    Rule("bad_part", "A content part is not a text part.", 'Write {"type": "text", "text": "..."}.'),
    Rule("not_text", "A content part is an image, sound or file.", "Remove it: base models here read text only."),
    Rule("misplaced_tool_calls", "A message that is not the assistant's has tool calls.", "Move the calls to an assistant message."),
    Rule("bad_tool_calls", "'tool_calls' is not a list of at least one call.", "Leave an empty list out."),
    Rule(
        "bad_tool_call",
        "A tool call has no id, or its type is not 'function'.",
        'Write {"id": ..., "type": "function", "function": {...}}.',
    ),
    Rule(
        "bad_function_call",
        "A call has no function name, or arguments that are not a string.",
        "Give name, and arguments as a string of JSON.",
    ),
    Rule("unanswered_call", "A tool call is not answered before the talk goes on.", "Add a tool message with its id right after it."),
    Rule("unasked_answer", "A tool message answers no call before it.", "Correct its tool_call_id, or add the call."),
    Rule("arguments_not_json", "A call's arguments are not a JSON object.", "Write them as json.dumps of an object.", Severity.WARNING),
    Rule("arguments_encoded_twice", "A call's arguments were encoded twice.", "Decode them once.", Severity.WARNING),
)

GROUPS: Mapping[str, tuple[Rule, ...]] = {
    "file": _OF_FILE,
    "line": _OF_LINE,
    "row": _OF_ROW,
    "message": _OF_MESSAGE,
}
"""All rules by what they are about."""
RULES: Mapping[str, Rule] = {rule.code: rule for rules in GROUPS.values() for rule in rules}
"""All rules by code."""
