"""What was left behind in texts, and what only looks like it."""

import pytest

from luthier.core.doctor_report import Weight
from luthier.data.detectors.leftovers import Leftovers
from tests.support.doctor_rows import answers, asked, chat, found

LEFT = {
    "special_token": [
        "<|im_start|>assistant\nHi",
        "Hi<|im_end|>",
        "<|endoftext|>",
        "[INST] Hi [/INST]",
        "<<SYS>> be kind <</SYS>>",
        "<s> Hi",
        "Hi </s>",
        "Hi<end_of_turn>",
        "Hi <eos>",
        "<｜User｜>Hi",
        "Hi [PAD][PAD]",
        "[TOOL_CALLS] []",
    ],
    "prompt_marker": ["### Response:\nHi", "Hi\n### Instruction: go on", "## Human: hi", "### Réponse : bien"],
    "role_prefix": ["Assistant: Hi", "AI: Hi", "Hi\nUser: and you?", "Human: hi\nAssistant: hi", "Q?\nAssistant:"],
    "unfilled_template": ["Dear {{name}},", "Dear {{ user.name }},", "{question}", "Answer: {context} please", "[INSERT NAME HERE]", "{{x|upper}}"],
    "assistant_boilerplate": [
        "As an AI language model, I think so.",
        "as a large language model",
        "As an AI, I have no taste.",
        "I'm just an AI assistant.",
        "Before my knowledge cutoff in 2021",
        "I was trained by OpenAI.",
        "En tant que modèle de langage, je crois",
        "En tant qu'IA, je crois",
    ],
    "html_remnant": ["a<br>b", "a<br/>b", "<p>Hi</p>", "fish &amp; chips", "a&nbsp;b", "l&#39;eau", '<a href="x">here</a>', "<b>bold</b>"],
    "mojibake": ["cafÃ©", "lâ€™eau", "dÃ©jÃ\u00a0 vu", "10Â°", "ï»¿Hi", "ðŸ˜€", "cÅ“ur", "a\ufffdb", "“a” naÃ¯ve"],
    "literal_escape": ["First.\\nSecond", "Hi\\n\\nThere", "a\\n- b\\n- c", "caf\\u00e9", "l\\u2019eau"],
}
FINE = [
    "a < b and b > c, <sigh>, a|b, <|> and x<y|z>w",
    "INST and [1] and [see above] and [sic]",
    "the <s> tag strikes through, a </s> too",
    "### Results: good\n## Notes\n# Response",
    "Her response: yes. The assistant: Ann. My AI: none",
    "A note to the user: read it",
    "The set {a, b}, f{x} and {} and {{}}",
    "$\\frac{a}{{b}}$ and {name}",
    "Language models are statistics. AI is a field. A language model as such.",
    "Il est en tant que chef",
    "R&D, AT&T; x &c.; 1 <2 and 3> 2, a<b",
    "Âge, château, NÃO, MÃE, Ångström, â, €5, ï, “naïve” café",
    "C:\\new\\name and \\nabla, \\neq, \\nu",
    'print("a\\n") and \\d+\\n',
    "one\ntwo \\n three",
    '{"text": "a\\\\nB"}',
    "```\n<br>{{name}}\nUser: x\n```",
]


@pytest.mark.parametrize(("code", "text"), [(code, text) for code, texts in LEFT.items() for text in texts])
def test_what_was_left_in_an_answer_is_found(code: str, text: str) -> None:
    finding = found(Leftovers(), answers("Yes.", text, "No."))[code]
    assert (finding.count, finding.lines) == (1, (2,))
    assert len(finding.examples) == 1
    assert finding.examples[0].isprintable()


@pytest.mark.parametrize("text", FINE)
def test_what_only_looks_like_it_is_left(text: str) -> None:
    assert found(Leftovers(), answers(text)) == {}


def test_it_is_serious_where_it_is_trained() -> None:
    for question, answer, weight in (("<|im_start|>hi", "Hi", Weight.WORTH_A_LOOK), ("hi", "<|im_start|>Hi", Weight.SERIOUS)):
        assert found(Leftovers(), [asked(question, answer)])["special_token"].weight is weight
    assert found(Leftovers(), [asked("hi", "a<br>b")])["html_remnant"].weight is Weight.WORTH_A_LOOK


def test_phrases_of_other_assistants_matter_in_answers_only() -> None:
    assert found(Leftovers(), [asked("Answer as an AI language model", "Hi")]) == {}


def test_what_tools_say_is_left_alone_but_for_tokens_and_broken_characters() -> None:
    def row(text: str):
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"html": "<br>\\\\nA"}'}}
        return chat(
            1,
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": text},
            {"role": "assistant", "content": "Done."},
        )

    assert found(Leftovers(), [row("<br>{{name}} User: a\\nB")]) == {}
    assert set(found(Leftovers(), [row("<|im_end|> cafÃ©")])) == {"special_token", "mojibake"}


def test_a_row_counts_once_and_lines_end_at_fifty() -> None:
    finding = found(Leftovers(), answers(*["<br> <br> <p>"] * 60))["html_remnant"]
    assert finding.count == 60
    assert finding.lines == tuple(range(1, 51))


def test_an_excerpt_shows_nothing_private() -> None:
    finding = found(Leftovers(), answers("ann.lee@mail.org <br> 4539 1488 0343 6467"))["html_remnant"]
    assert finding.examples == ("*** <br> ***",)


@pytest.mark.parametrize("piece", ["<|a", "{{a", "\\n", "&#", "<a ", "I", "### ", "Ã", "\nUser", "[INSERT A"])
def test_a_hostile_text_ends(piece: str) -> None:
    found(Leftovers(), answers(piece * (200_000 // len(piece))))
