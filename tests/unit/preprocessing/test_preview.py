"""A preview shows exactly the tokens, weights and cuts that training uses."""

from dataclasses import replace

import numpy as np
import pytest

from luthier.chat.renderer import Renderer
from luthier.core.conversation import Conversation, Message, Role
from luthier.core.errors import JobFailure
from luthier.core.examples import Dataset, Example, PreferenceExample, RlExample, RowFormat, SftExample, SourceLine
from luthier.core.tokens import Rendered, TokenKind
from luthier.preprocessing.places import Place
from luthier.preprocessing.preview import Preview, PreviewSequence, ShownKind, preview
from luthier.preprocessing.sequences import sequences_of
from luthier.preprocessing.stage import prepare
from tests.support.tiny_models import CHATML, mini_folder, tokenizer_folder

SOURCE = SourceLine("file-1", 17)
CUTS = (1, 5, 12, 13, 14, 20, 512)


def _said(role: Role, content: str, weight: float = 1.0) -> Message:
    return Message(role=role, content=content, weight=weight)


TALK = Conversation(
    messages=(
        _said(Role.SYSTEM, "Be brief."),
        _said(Role.USER, "What is ice?"),
        _said(Role.ASSISTANT, "Cold.", 0.0),
        _said(Role.USER, "And fire?"),
        _said(Role.ASSISTANT, "Hot, of course."),
    )
)
PAIR = PreferenceExample(
    source=SOURCE,
    prompt=Conversation(messages=TALK.messages[:-1]),
    preferred=_said(Role.ASSISTANT, "Hot, madam."),
    non_preferred=_said(Role.ASSISTANT, "Hot, stupid question!", 0.0),
)


@pytest.fixture(scope="module", params=["mini", "chatml", "none"])
def renderer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    """The embedded base's, one without generation marks, one without a template."""
    if request.param == "mini":
        return Renderer.load(mini_folder())
    return Renderer.load(tokenizer_folder(tmp_path_factory.mktemp("shown") / "m", CHATML if request.param == "chatml" else None))


def _kept(sequence: PreviewSequence) -> tuple[list[int], list[float]]:
    kept = [token for token in sequence.tokens if token.kind is not ShownKind.TRUNCATED]
    return [token.id for token in kept], [token.weight for token in kept]


def _shown(example: Example, renderer: Renderer, row_format: RowFormat, max_length: int) -> Preview:
    return preview(example, renderer, row_format=row_format, max_length=max_length)


@pytest.mark.parametrize("max_length", CUTS)
@pytest.mark.parametrize("row_format", [RowFormat.CHAT, RowFormat.PROMPT_COMPLETION])
def test_supervised_tokens_are_those_of_training(renderer: Renderer, row_format: RowFormat, max_length: int) -> None:
    talk = TALK if row_format is RowFormat.CHAT else Conversation(messages=(_said(Role.USER, "2+2 = "), _said(Role.ASSISTANT, "four")))
    example = SftExample(source=SOURCE, conversation=talk)
    shown = _shown(example, renderer, row_format, max_length)
    (sequence,) = shown.sequences
    assert all((token.weight > 0) == (token.kind is ShownKind.TRAINED) for token in sequence.tokens)
    dataset = Dataset(file_id="file-1", row_format=row_format, examples=(example,), num_lines=1, fingerprint="")
    try:
        prepared = prepare(dataset, renderer, max_length=max_length, role="training")
    except JobFailure:
        assert (sequence.num_trained, shown.ok) == (0, False)
        return
    trained = prepared.examples[0]
    assert shown.ok
    assert _kept(sequence) == (trained.rendered.ids_T.tolist(), trained.rendered.weights_T.tolist())
    assert (sequence.num_truncated, sequence.num_trained) == (trained.truncated, prepared.num_trained)
    assert [t.kind.value for t in sequence.tokens[: sequence.num_tokens]] == _kinds(renderer.example(talk, row_format.value))[:max_length]


def _kinds(rendered: Rendered) -> list[str]:
    return [span.kind.value for span in rendered.spans for _ in range(span.start, span.end)]


def test_what_is_cut_off_tells_what_it_would_have_been(renderer: Renderer) -> None:
    example = SftExample(source=SOURCE, conversation=TALK)
    whole = _shown(example, renderer, RowFormat.CHAT, 512).sequences[0]
    for max_length in range(1, len(whole.tokens)):
        cut = _shown(example, renderer, RowFormat.CHAT, max_length).sequences[0]
        assert [token.id for token in cut.tokens] == [token.id for token in whole.tokens]
        assert [t.lost for t in cut.tokens[max_length:]] == [TokenKind(t.kind.value) for t in whole.tokens[max_length:]]
        assert cut.num_trained + cut.num_trained_lost == whole.num_trained


@pytest.mark.parametrize("max_length", CUTS)
def test_a_preference_row_has_two_sequences_that_share_their_prompt(renderer: Renderer, max_length: int) -> None:
    shown = _shown(PAIR, renderer, RowFormat.PREFERENCE, max_length)
    for sequence, one in zip(shown.sequences, sequences_of(PAIR, renderer, RowFormat.PREFERENCE), strict=True):
        assert _kept(sequence) == (one.rendered.ids_T[:max_length].tolist(), one.rendered.weights_T[:max_length].tolist())
    better, worse = shown.sequences
    assert (better.name, worse.name) == ("preferred", "non_preferred")
    prompt = renderer.prompt(PAIR.prompt).ids_T.tolist()
    assert better.num_shared == worse.num_shared == len(prompt)
    assert [t.id for t in better.tokens[: len(prompt)]] == [t.id for t in worse.tokens[: len(prompt)]] == prompt


def test_of_a_preference_row_the_answers_alone_count(renderer: Renderer) -> None:
    louder = replace(PAIR, prompt=Conversation(messages=tuple(replace(m, weight=1.0) for m in PAIR.prompt.messages)))
    for pair in (PAIR, louder):
        sequences = sequences_of(pair, renderer, RowFormat.PREFERENCE)
        for one, answer in zip(sequences, (PAIR.preferred, PAIR.non_preferred), strict=True):
            trained = one.rendered.ids_T[np.flatnonzero(one.rendered.weights_T)].tolist()
            assert renderer.tokenizer.decode(trained).startswith(answer.content)
            assert trained[-1] in renderer.stop_ids
            assert set(one.rendered.weights_T.tolist()) == {0.0, 1.0}


def test_a_row_for_reinforcement_is_its_generation_prompt_and_its_reference(renderer: Renderer) -> None:
    example = RlExample(source=SOURCE, prompt=Conversation(messages=TALK.messages[:2]), reference={"answer": ["hot"]})
    shown = _shown(example, renderer, RowFormat.REINFORCEMENT, 512)
    (sequence,) = shown.sequences
    assert [t.id for t in sequence.tokens] == renderer.prompt(example.prompt).ids_T.tolist()
    assert (shown.ok, sequence.num_trained, shown.reference, shown.problems) == (True, 0, {"answer": ["hot"]}, ())
    full = _shown(example, renderer, RowFormat.REINFORCEMENT, len(sequence.tokens))
    assert [p.code for p in full.problems] == ["no_room_for_answer"]
    assert not full.ok


def test_a_row_without_a_trained_token_is_an_error_with_its_line() -> None:
    mini = Renderer.load(mini_folder())
    example = SftExample(source=SOURCE, conversation=TALK)
    start = _shown(example, mini, RowFormat.CHAT, 512).sequences[0].trained_positions()[0]
    shown = _shown(example, mini, RowFormat.CHAT, start)
    assert not shown.ok
    assert [p.message for p in shown.problems] == [
        f"Example 17 has no token to train on: every answer lies past the length limit of {start} tokens."
    ]
    silent = SftExample(source=SOURCE, conversation=Conversation(messages=TALK.messages[:3]))
    assert [p.message for p in _shown(silent, mini, RowFormat.CHAT, 512).problems] == [
        "Example 17 has no token to train on: no message of it is learned."
    ]


def test_an_answer_that_is_cut_is_a_warning_and_answers_that_become_equal_an_error() -> None:
    mini = Renderer.load(mini_folder())
    start = _shown(PAIR, mini, RowFormat.PREFERENCE, 512).sequences[0].num_shared
    shown = _shown(PAIR, mini, RowFormat.PREFERENCE, start + 2)  # "Hot" and "," stand in both
    assert [(p.code, p.is_error) for p in shown.problems] == [("answer_cut", False), ("answer_cut", False), ("same_tokens", True)]
    assert shown.problems[0].message.startswith("Example 17 (preferred answer) loses ")
    assert shown.problems[1].message.startswith("Example 17 (non-preferred answer) loses ")
    none = _shown(PAIR, mini, RowFormat.PREFERENCE, start)
    assert [p.code for p in none.problems] == ["nothing_trained", "nothing_trained", "same_tokens"]


def test_an_answer_without_its_end_is_a_warning(tmp_path) -> None:
    endless = tokenizer_folder(
        tmp_path / "e",
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}",
    )
    example = SftExample(source=SOURCE, conversation=Conversation(messages=TALK.messages[1:3] + TALK.messages[3:]))
    shown = _shown(example, Renderer.load(endless), RowFormat.CHAT, 512)
    assert [(p.code, p.is_error) for p in shown.problems] == [("no_end", False)]


def test_a_template_that_rewrites_earlier_turns_makes_a_sequence_of_each_answer(tmp_path) -> None:
    source = (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content.split('!')[0] if not loop.last else m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    renderer = Renderer.load(tokenizer_folder(tmp_path / "rewrites", source))
    said = (_said(Role.USER, "One?"), _said(Role.ASSISTANT, "Yes! One."), _said(Role.USER, "Two?"), _said(Role.ASSISTANT, "No! Two."))
    shown = _shown(SftExample(source=SOURCE, conversation=Conversation(messages=said)), renderer, RowFormat.CHAT, 512)
    texts = [renderer.tokenizer.decode([t.id for t in s.tokens if t.kind is ShownKind.TRAINED]) for s in shown.sequences]
    assert texts == ["Yes! One.", "No! Two."]
    assert [(s.name, s.num_shared) for s in shown.sequences] == [("example", 0), ("example", 0)]
    assert shown.problems == ()
    short = _shown(SftExample(source=SOURCE, conversation=Conversation(messages=said)), renderer, RowFormat.CHAT, 10)
    assert short.ok
    assert [p.is_error for p in short.problems] == [False]


def test_the_dict_has_totals_and_every_token(renderer: Renderer) -> None:
    example = SftExample(source=SOURCE, conversation=TALK)
    places = (Place(sequence=2, num_sequences=9, start=100, end=123, shared_with=(4, 8), num_shared_with=2),)
    plain = preview(example, renderer, row_format=RowFormat.CHAT, max_length=512, places=places).to_dict()
    (sequence,) = plain["sequences"]
    tokens = sequence["tokens"]
    counts = [sequence[f"num_{kind}"] for kind in ("trained", "context", "special", "truncated")]
    assert sum(counts) == len(tokens) == sequence["num_tokens"]
    trained = [at for at, token in enumerate(tokens) if token["kind"] == "trained"]
    assert (sequence["first_trained"], sequence["last_trained"]) == (trained[0], trained[-1])
    assert sequence["trained_share"] == len(trained) / len(tokens)
    assert sequence["placement"] == places[0].to_dict()
    text = b"".join(bytes(token["bytes"]) for token in tokens).decode()
    assert "And fire?" in text
    assert {t["role"] for t in tokens if t["message"] == 3} == {"user"}


def test_places_go_to_the_parts_that_have_a_trained_token(tmp_path) -> None:
    source = (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content.split('!')[0] if not loop.last else m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    renderer = Renderer.load(tokenizer_folder(tmp_path / "rewrites", source))
    said = (_said(Role.USER, "One?"), _said(Role.ASSISTANT, "Yes! One."), _said(Role.USER, "Two?"), _said(Role.ASSISTANT, "No! Two."))
    example = SftExample(source=SOURCE, conversation=Conversation(messages=said))
    place = Place(sequence=0, num_sequences=1, start=0, end=10, shared_with=(), num_shared_with=0)
    shown = preview(example, renderer, row_format=RowFormat.CHAT, max_length=10, places=[place])
    assert [bool(s.num_trained) for s in shown.sequences] == [True, False]
    assert [s.placement for s in shown.sequences] == [place, None]


def test_a_row_of_ten_thousand_tokens_is_shown_whole() -> None:
    mini = Renderer.load(mini_folder())
    long = Conversation(messages=(_said(Role.USER, "word " * 6000), _said(Role.ASSISTANT, "other " * 6000)))
    (sequence,) = _shown(SftExample(source=SOURCE, conversation=long), mini, RowFormat.CHAT, 8000).sequences
    assert len(sequence.tokens) > 10_000
    assert sequence.num_tokens == 8000
    assert sequence.num_truncated == len(sequence.tokens) - 8000
