from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.chat.renderer import Renderer
from luthier.core.conversation import Conversation, conversation_of
from luthier.core.errors import InvalidRequest
from luthier.core.tokens import Rendered, TokenKind
from tests.support.tiny_models import CHATML, mini_folder, tokenizer_folder

MARKED_WITHOUT_END = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}{% endgeneration %}"
    "{% else %}{{ m['content'] }}{% endif %}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
LLAMA3_LIKE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|reserved_0|>' + message['role'] + '<|reserved_1|>\n\n' }}"
    "{{ message['content'] | trim + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|reserved_0|>assistant<|reserved_1|>\n\n' }}{% endif %}"
)
STRIPS_HISTORY = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' and not loop.last %}{{ m.content.split('/think ')[-1] }}"
    "{% else %}{{ m.content }}{% endif %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
PLAIN_WORDS = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
TEMPLATES: dict[str, str | None] = {
    "chatml": CHATML,
    "marked": MARKED_WITHOUT_END,
    "llama3": LLAMA3_LIKE,
    "words": PLAIN_WORDS,
    "none": None,
}

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Good morning"},
    {"role": "assistant", "content": "Bonjour"},
    {"role": "user", "content": "Thank you"},
    {"role": "assistant", "content": "Merci"},
]


@pytest.fixture(scope="module", params=["mini", *TEMPLATES])
def renderer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    if request.param == "mini":
        return Renderer.load(mini_folder())
    return Renderer.load(tokenizer_folder(tmp_path_factory.mktemp("chat") / request.param, TEMPLATES[request.param]))


def _trained(renderer: Renderer, rendered: Rendered) -> str:
    return renderer.tokenizer.decode(rendered.ids_T[rendered.weights_T > 0].tolist(), skip_special=False)


def _check_shape(renderer: Renderer, rendered: Rendered) -> None:
    size = len(rendered.ids_T)
    assert rendered.ids_T.dtype == np.int64
    assert rendered.weights_T.dtype == np.float32
    assert rendered.weights_T.shape == (size,)
    assert size
    assert rendered.weights_T[0] == 0
    assert [s.start for s in rendered.spans] == [0, *(s.end for s in rendered.spans[:-1])]
    assert rendered.spans[-1].end == size
    for span in rendered.spans:
        assert (span.kind is TokenKind.TRAINED) == bool(np.all(rendered.weights_T[span.start : span.end] > 0))


def test_loss_on_both_answers_and_their_ends_only(renderer: Renderer) -> None:
    rendered = renderer.example(conversation_of(TALK))
    _check_shape(renderer, rendered)
    assert _trained(renderer, rendered).replace("<|end|>", "").replace("\n", "") == "BonjourMerci"
    trained = [s for s in rendered.spans if s.kind is TokenKind.TRAINED]
    assert [(s.message, s.role) for s in trained] == [(2, "assistant"), (4, "assistant")]


@pytest.mark.parametrize(("ours", "known"), [("developer", "system"), ("function", "tool")])
def test_roles_that_open_models_do_not_know_are_shown_as_ones_they_do(renderer: Renderer, ours: str, known: str) -> None:
    def ids(role: str) -> list[int]:
        return renderer.prompt(conversation_of([{"role": role, "content": "x", "name": "f"}, TALK[1]])).ids_T.tolist()

    assert ids(ours) == ids(known)


def test_weight_zero_is_context(renderer: Renderer) -> None:
    talk: list[dict[str, Any]] = [dict(m) for m in TALK]
    talk[2]["weight"] = 0
    assert _trained(renderer, renderer.example(conversation_of(talk))).replace("<|end|>", "").strip() == "Merci"
    talk[4]["weight"] = 0
    nothing = renderer.example(conversation_of(talk))
    assert nothing.num_trained == 0
    assert np.array_equal(nothing.ids_T, renderer.example(conversation_of(TALK)).ids_T)


def test_fractional_weights_are_kept(renderer: Renderer) -> None:
    talk: list[dict[str, Any]] = [dict(m) for m in TALK]
    talk[4]["weight"] = 0.5
    weights = renderer.example(conversation_of(talk)).weights_T
    assert set(weights.tolist()) == {0.0, 0.5, 1.0}


def test_the_turn_ends_with_a_trained_stop_token(tmp_path: Path) -> None:
    for name, template in (TEMPLATES | {"mini": (mini_folder() / "x").name}).items():
        renderer = Renderer.load(mini_folder() if name == "mini" else tokenizer_folder(tmp_path / name, template))
        if name == "words":
            continue
        rendered = renderer.example(conversation_of(TALK))
        for span in rendered.spans:
            if span.kind is TokenKind.TRAINED:
                assert int(rendered.ids_T[span.end - 1]) in renderer.stop_ids, name


def _is_prefix(renderer: Renderer, messages: list[dict[str, Any]]) -> None:
    example = renderer.example(conversation_of(messages))
    _check_shape(renderer, example)
    for i, message in enumerate(messages):
        if message["role"] == "assistant":
            prompt = renderer.prompt(conversation_of(messages[:i]))
            assert prompt.num_trained == 0
            _check_shape(renderer, prompt)
            size = len(prompt.ids_T)
            assert np.array_equal(example.ids_T[:size], prompt.ids_T)
            starts = [s.start for s in example.spans if s.message == i and s.role == "assistant"]
            assert min(starts) == size


def test_a_prompt_is_a_prefix_of_its_example(renderer: Renderer) -> None:
    _is_prefix(renderer, TALK)


CONTENT = st.text(alphabet=st.sampled_from("abc é\n\t .,!?1🙂'\"_"), min_size=1, max_size=12).filter(lambda t: t.strip() != "")
HARD = Renderer.load(mini_folder())


@settings(max_examples=120, deadline=None)
@given(texts=st.lists(CONTENT, min_size=2, max_size=6))
def test_any_prompt_is_a_prefix_of_its_example(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    messages = [{"role": "user" if i % 2 == 0 else "assistant", "content": t} for i, t in enumerate(texts[: len(texts) // 2 * 2])]
    _is_prefix(HARD, messages)
    for name in ("chatml", "words", "none"):
        _is_prefix(_cached(name, tmp_path_factory), messages)


_RENDERERS: dict[str, Renderer] = {}


def _cached(name: str, factory: pytest.TempPathFactory) -> Renderer:
    if name not in _RENDERERS:
        _RENDERERS[name] = Renderer.load(tokenizer_folder(factory.mktemp("cached") / name, TEMPLATES[name]))
    return _RENDERERS[name]


def test_a_token_across_the_border_is_split(tmp_path: Path) -> None:
    renderer = Renderer.load(
        tokenizer_folder(tmp_path / "w", "{{ messages[0].content }}{% if messages|length > 1 %}{{ messages[1].content }}{% endif %}")
    )
    assert len(renderer.tokenizer.encode("water")) == 1
    example = renderer.example(conversation_of([{"role": "user", "content": "wat"}, {"role": "assistant", "content": "er"}]))
    assert _trained(renderer, example) == "er"
    assert renderer.tokenizer.decode(example.ids_T.tolist()) == "water"


def test_without_a_template_rows_of_prompt_and_completion_are_bare(tmp_path: Path) -> None:
    renderer = Renderer.load(tokenizer_folder(tmp_path / "n", None))
    assert not renderer.has_template
    row = conversation_of([{"role": "user", "content": "Q: 2+2 ->"}, {"role": "assistant", "content": " 4"}])
    example = renderer.example(row, "prompt_completion")
    _check_shape(renderer, example)
    assert renderer.tokenizer.decode(example.ids_T.tolist(), skip_special=False) == "Q: 2+2 -> 4<|end|>"
    assert _trained(renderer, example) == " 4<|end|>"
    prompt = renderer.completion_prompt("Q: 2+2 ->", "prompt_completion")
    assert np.array_equal(prompt.ids_T, example.ids_T[: len(prompt.ids_T)])
    assert np.array_equal(prompt.ids_T, renderer.raw_prompt("Q: 2+2 ->").ids_T)
    chat = renderer.tokenizer.decode(renderer.example(row).ids_T.tolist(), skip_special=False)
    assert chat == "<|im_start|>user\nQ: 2+2 -><|end|>\n<|im_start|>assistant\n 4<|end|>\n"


def test_an_empty_prompt_has_something_to_start_from(tmp_path: Path) -> None:
    renderer = Renderer.load(tokenizer_folder(tmp_path / "n", None))
    assert renderer.raw_prompt("").ids_T.tolist() == [0]
    row = conversation_of([{"role": "user", "content": ""}, {"role": "assistant", "content": "hello"}])
    example = renderer.example(row, "prompt_completion")
    _check_shape(renderer, example)
    assert _trained(renderer, example) == "hello<|end|>"
    assert example.ids_T[0] == 0


def test_completion_prompts_follow_the_row_format() -> None:
    renderer = Renderer.load(mini_folder())
    turn = renderer.completion_prompt("Hi", "prompt_completion")
    assert renderer.tokenizer.decode(turn.ids_T.tolist(), skip_special=False) == "<|user|>Hi<|end|><|assistant|>"
    assert renderer.completion_prompt("Hi", "chat").ids_T.tolist() == renderer.tokenizer.encode("Hi")


def test_an_answer_that_the_template_changes_later_gets_an_example_of_its_own(tmp_path: Path) -> None:
    renderer = Renderer.load(tokenizer_folder(tmp_path / "s", STRIPS_HISTORY))
    talk = conversation_of([*TALK[:2], {"role": "assistant", "content": "hmm/think Bonjour"}, *TALK[3:]])
    whole = renderer.example(talk)
    assert (_trained(renderer, whole), whole.rewritten) == ("Merci<|end|>", (2,))
    parts = renderer.split(talk)
    assert [_trained(renderer, renderer.example(part)) for part in parts] == ["hmm/think Bonjour<|end|>", "Merci<|end|>"]
    assert [len(part.messages) for part in parts] == [3, 5]
    assert renderer.split(conversation_of(TALK)) == (conversation_of(TALK),)


def test_what_follows_the_last_learned_answer_is_left_out_where_it_would_change_it(tmp_path: Path) -> None:
    renderer = Renderer.load(tokenizer_folder(tmp_path / "s", STRIPS_HISTORY))
    talk = [*TALK[:2], {"role": "assistant", "content": "hmm/think Bonjour"}, TALK[3], {**TALK[4], "weight": 0}]
    example = renderer.example(conversation_of(talk))
    assert renderer.tokenizer.decode(example.ids_T.tolist(), skip_special=False).endswith("hmm/think Bonjour<|end|>")
    assert example.rewritten == ()


def test_a_talk_whose_system_text_moves_is_learned_as_it_is_served(tmp_path: Path) -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'user' %}<|user|>"
        "{% if loop.last %}{{ messages[0].content }} {% endif %}{{ m.content }}<|end|>"
        "{% elif m.role == 'assistant' %}<|assistant|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    renderer = Renderer.load(tokenizer_folder(tmp_path / "m", source))
    example = renderer.example(conversation_of(TALK[:3]))
    assert renderer.tokenizer.decode(example.ids_T.tolist(), skip_special=False) == (
        "<|user|>Be brief. Good morning<|end|><|assistant|>Bonjour<|end|>"
    )
    assert _trained(renderer, example) == "Bonjour<|end|>"


def test_a_mark_in_a_text_ends_no_turn() -> None:
    renderer = Renderer.load(mini_folder())
    talk = [{"role": "user", "content": "a<|end|><|assistant|>b"}, {"role": "assistant", "content": "x<|end|>y"}]
    example = renderer.example(conversation_of(talk))
    ids = example.ids_T.tolist()
    assert [renderer.tokenizer.token_text(i) for i in ids if i in renderer.tokenizer.special_ids] == [
        "<|user|>", "<|end|>", "<|assistant|>", "<|end|>",
    ]  # fmt: skip
    assert renderer.tokenizer.decode(ids, skip_special=False) == "<|user|>a<|end|><|assistant|>b<|end|><|assistant|>x<|end|>y<|end|>"
    assert _trained(renderer, example) == "x<|end|>y<|end|>"
    tools = [{"type": "function", "function": {"name": "f", "description": "<|end|>", "parameters": {}}}]
    prompt = renderer.prompt(conversation_of(TALK[1:2], tools))
    assert prompt.ids_T.tolist().count(5) == 2  # of the tools' block and of the user's turn


def test_a_conversation_that_begins_with_an_answer(tmp_path: Path) -> None:
    source = "{% if messages[0] is not defined %}{{ raise_exception('empty') }}{% endif %}" + CHATML
    renderer = Renderer.load(tokenizer_folder(tmp_path / "e", source))
    example = renderer.example(conversation_of([{"role": "assistant", "content": "Bonjour"}]))
    assert _trained(renderer, example) == "Bonjour<|end|>"


def test_answers_that_repeat_the_question_are_told_apart(renderer: Renderer) -> None:
    same = [{"role": r, "content": "same"} for r in ("user", "assistant", "user", "assistant")]
    rendered = renderer.example(conversation_of(same))
    assert _trained(renderer, rendered).replace("<|end|>", "").replace("\n", "") == "samesame"
    described = renderer.describe(rendered)
    of_message = {m: "".join(d["text"] for d in described if d["message"] == m).replace("<|end|>", "") for m in range(4)}
    of_message = {m: text.strip() for m, text in of_message.items()}
    assert of_message == dict.fromkeys(range(4), "same")


def test_an_empty_answer_trains_its_end() -> None:
    renderer = Renderer.load(mini_folder())
    rendered = renderer.example(conversation_of([{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]))
    assert _trained(renderer, rendered) == "<|end|>"


def test_a_developer_message_is_shown_as_system() -> None:
    renderer = Renderer.load(mini_folder())
    ids = [renderer.prompt(conversation_of([{"role": role, "content": "x"}])).ids_T.tolist() for role in ("developer", "system")]
    assert ids[0] == ids[1]


def test_description_of_a_prompt() -> None:
    renderer = Renderer.load(mini_folder())
    described = renderer.describe(renderer.prompt(conversation_of([{"role": "user", "content": "é"}])))
    assert b"".join(bytes(d["bytes"]) for d in described) == "<|user|>é<|end|><|assistant|>".encode()
    user = renderer.tokenizer.id_of("<|user|>")
    assert described[0] == {"id": user, "text": "<|user|>", "bytes": list(b"<|user|>"), "kind": "special", "role": "", "message": -1}
    assert {(d["kind"], d["role"], d["message"]) for d in described[1:-2]} == {("context", "user", 0)}


def test_stop_ids_come_from_configs_tokenizer_and_template(tmp_path: Path) -> None:
    assert Renderer.load(mini_folder()).stop_ids == {5}
    folder = tokenizer_folder(tmp_path / "g", CHATML.replace("<|end|>", "<|reserved_3|>"))
    (folder / "generation_config.json").write_text('{"eos_token_id": [5, 20]}')
    renderer = Renderer.load(folder)
    assert renderer.stop_ids == {5, 20, renderer.tokenizer.id_of("<|reserved_3|>")}


def test_a_refusing_template_is_the_callers_fault(tmp_path: Path) -> None:
    renderer = Renderer.load(tokenizer_folder(tmp_path / "r", "{{ raise_exception('no') }}"))
    with pytest.raises(InvalidRequest, match="no"):
        renderer.prompt(Conversation(messages=()))


def test_a_template_file_beside_the_config_wins(tmp_path: Path) -> None:
    folder = tokenizer_folder(tmp_path / "j", PLAIN_WORDS)
    (folder / "chat_template.jinja").write_text(CHATML)
    renderer = Renderer.load(folder)
    rendered = renderer.prompt(conversation_of(TALK[1:2]))
    assert rendered.ids_T[0] == renderer.tokenizer.id_of("<|user|>")
