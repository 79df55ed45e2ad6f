import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from luthier.chat.renderer import Renderer
from luthier.core.engine_messages import TracePrediction
from luthier.core.errors import InvalidRequest
from luthier.core.generation import ModelTarget
from luthier.core.prediction import MAX_REPLY_BYTES
from luthier.deployment import tracing
from luthier.deployment.model_cache import Lease
from luthier.deployment.tracing import traced
from luthier.engine import naive
from luthier.engine.sequence import Lane
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from tests.support.fake_model import FakeModel
from tests.support.mini import MINI, load_mini
from tests.support.tiny_models import build

TUNED = ModelTarget(name="ft:tuned", base_path=str(MINI), adapter_path="adapter")
BASE = ModelTarget(name="luthier-mini", base_path=str(MINI))
SAID = ({"role": "user", "content": "Good morning, how are you today?"},)
LONG = ({"role": "user", "content": "The story of the old house by the sea, told again and again. " * 15},)


@pytest.fixture(scope="module")
def mini() -> LanguageModel:
    return load_mini(adapter="tuned")


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer.load(MINI)


def _lease(model: LanguageModel, renderer: Renderer, adapter: str | None) -> Lease:
    unused: Any = None
    return Lease(lane=Lane("m", adapter), model=model, renderer=renderer, max_length=512, bytes=1, base=unused, adapter=None)


def _trace(model: LanguageModel, renderer: Renderer, *, tuned: bool = True, base: bool = True, **fields: Any) -> dict[str, Any]:
    asked = {"target": TUNED if tuned else BASE, "base": BASE if base else None, "max_tokens": 12, "tiers": ("A", "B", "C"), **fields}
    if "prompt" not in asked:
        asked.setdefault("messages", SAID)
    leases = _lease(model, renderer, "tuned" if tuned else None), _lease(model, renderer, None) if base else None
    *pieces, text = traced(TracePrediction(**asked), *leases)
    assert pieces == [None] * len(pieces)
    assert text is not None
    return json.loads(text)


@pytest.fixture(scope="module")
def whole(mini: LanguageModel, renderer: Renderer) -> dict[str, Any]:
    return _trace(mini, renderer, token=3, layer=2)


def test_the_answers_are_those_of_the_plainest_loop(mini: LanguageModel, renderer: Renderer, whole: dict[str, Any]) -> None:
    prompt = [t["id"] for t in whole["prompt_tokens"]]
    for side, adapter in (("tuned", "tuned"), ("base_side", None)):
        expected = naive.generate(mini, prompt, max_new_tokens=12, stop_ids=renderer.stop_ids, adapter=adapter)
        path = whole[side]["path"]
        assert [step["id"] for step in path] == expected
        said = expected[:-1] if path[-1]["end"] else expected
        assert whole[side]["answer"] == renderer.tokenizer.decode(said).strip()
    assert whole["tuned"]["answer"] != whole["base_side"]["answer"]
    assert {t["kind"] for t in whole["prompt_tokens"]} == {"special", "context"}
    assert not whole["missing"]


def test_probabilities_are_parts_of_one_softmax(mini: LanguageModel, whole: dict[str, Any]) -> None:
    prompt = [t["id"] for t in whole["prompt_tokens"]]
    for side, adapter in (("tuned", "tuned"), ("base_side", None)):
        ids = [step["id"] for step in whole[side]["path"]]
        for at, step in enumerate(whole[side]["path"]):
            row = torch.tensor([[*prompt, *ids[:at]]])
            with torch.no_grad(), mini.use_adapter(adapter):
                end = torch.tensor([row.shape[1] - 1])
                softmax = torch.softmax(mini.logits_at(row, end + 1, torch.tensor([0]), end)[0].double(), dim=-1)
            assert float(softmax.sum()) == pytest.approx(1.0, abs=1e-9)
            assert step["probability"] == pytest.approx(float(softmax[step["id"]]), rel=1e-3)
            assert step["rank"] == 1
            assert step["entropy"] == pytest.approx(float(-(softmax * softmax.log()).sum()), rel=1e-3)
            assert len(step["top"]) == 20
            assert sum(t["probability"] for t in step["top"]) <= 1 + 1e-5
            assert all(t["probability"] == pytest.approx(math.exp(t["logprob"]), rel=1e-4) for t in step["top"])


def test_the_lens_ends_in_the_path_and_the_layers_stand_side_by_side(whole: dict[str, Any]) -> None:
    layers = whole["layers"]
    first = layers["positions"].index(len(whole["prompt_tokens"]) - 1)
    ids = [step["id"] for step in whole["tuned"]["path"]]
    assert layers["tuned"]["top"][-1][first:] == ids
    assert layers["targets"][first:] == ids
    assert layers["tuned"]["probability"][-1][first:] == pytest.approx([s["probability"] for s in whole["tuned"]["path"]], rel=1e-3)
    assert (layers["count"], len(layers["base"]["top"]), len(layers["base"]["top"][0])) == (8, 8, len(layers["positions"]))
    assert all(layer is not None and layer <= 7 for layer in layers["tuned"]["appears"][first:])
    assert {str(i) for side in ("tuned", "base") for row in layers[side]["top"] for i in row} == set(layers["tokens"])
    assert [t["tuned_layer"] for t in whole["why"]["first_layers"]] == layers["tuned"]["appears"][first:]
    changes = [abs(t["change"]) for t in whole["why"]["most_shifted"]]
    assert changes == sorted(changes, reverse=True)
    assert max(abs(t["change"]) for t in whole["forced"]["tokens"]) == changes[0]


def test_embedding_adapter_and_attention(mini: LanguageModel, whole: dict[str, Any]) -> None:
    prompt = [t["id"] for t in whole["prompt_tokens"]]
    vectors = mini.token_vectors()
    assert vectors is not None
    assert whole["embedding"]["norms"] == pytest.approx(vectors[prompt].norm(dim=-1).tolist(), rel=1e-4)
    assert whole["embedding"]["token"] == 3
    assert len(whole["embedding"]["neighbours"]) == 8
    assert {(c["layer"], c["module"]) for c in whole["adapter"]} >= {(0, "self_attn.q_proj"), (7, "mlp.down_proj")}
    attention = whole["attention"]
    assert (attention["layer"], attention["heads"]) == (2, 4)
    assert attention["queries"][0] == len(prompt) - 1
    assert attention["per_head_queries"] == attention["queries"]
    for at, (query, row) in enumerate(zip(attention["queries"], attention["mean"], strict=True)):
        assert len(row) == query + 1
        assert sum(row) == pytest.approx(1.0, abs=2e-3)
        heads = [attention["per_head"][head][at] for head in range(4)]
        assert row == pytest.approx([sum(column) / 4 for column in zip(*heads, strict=True)], abs=1e-3)


def test_without_the_adapter_all_is_the_bases(mini: LanguageModel, renderer: Renderer, whole: dict[str, Any]) -> None:
    # Two answers are one batch and one is another, which may round otherwise: equal to the last digit is what is computed alike.
    pure, alone = (_trace(load_mini(), renderer, tuned=False, base=base) for base in (True, False))
    assert pure["tuned"] == pure["base_side"] == whole["base_side"]
    assert [step["id"] for step in alone["tuned"]["path"]] == [step["id"] for step in whole["base_side"]["path"]]
    for mine, theirs in zip(alone["tuned"]["path"], whole["base_side"]["path"], strict=True):
        assert mine["logprob"] == pytest.approx(theirs["logprob"], rel=1e-3, abs=1e-5)
    twice = _trace(mini, renderer, tuned=False)
    assert twice["tuned"] == twice["base_side"] == pure["tuned"]
    assert all(t["change"] == 0 for t in twice["forced"]["tokens"])
    assert twice["layers"]["tuned"] == twice["layers"]["base"] == alone["layers"]["tuned"]


def test_what_was_not_computed_is_null_and_named(mini: LanguageModel, renderer: Renderer) -> None:
    only = _trace(mini, renderer, tiers=("A",))
    assert [only[k] for k in ("embedding", "layers", "adapter", "attention")] == [None] * 4
    assert {m["tier"] for m in only["missing"]} == {"B", "C"}
    layers = _trace(mini, renderer, tiers=("B",), base=False, tuned=False)
    assert [layers[k] for k in ("tuned", "base_side", "forced", "adapter", "attention")] == [None] * 5
    assert layers["layers"]["base"] is None
    assert {m["tier"] for m in layers["missing"]} == {"A", "B", "C"}
    blind = _trace(FakeModel(vocab_size=8192, max_length=512), renderer, tuned=False, base=False)
    assert blind["layers"] is None
    assert any("cannot be looked into" in m["reason"] for m in blind["missing"])


def test_a_given_answer_is_read_through_both(mini: LanguageModel, renderer: Renderer) -> None:
    told = _trace(mini, renderer, answer="Bonjour", tiers=("A", "B"))
    tokens = told["forced"]["tokens"]
    assert told["forced"]["source"] == "answer"
    assert "".join(t["text"] for t in tokens[:-1]) == "Bonjour"
    assert tokens[-1]["id"] in renderer.stop_ids
    assert [t["id"] for t in tokens] == [t["id"] for t in told["layers"]["sequence"]][len(told["prompt_tokens"]) :]
    for token in tokens:
        assert token["change"] == pytest.approx(token["tuned_logprob"] - token["base_logprob"], abs=1e-4)
    long = _trace(mini, renderer, answer="Bonjour et merci. " * 40, tiers=("A",))
    assert len(long["forced"]["tokens"]) == 64
    assert any("the first 64 are looked at" in m["reason"] for m in long["missing"])


def test_a_bare_prompt_and_a_side_branch(mini: LanguageModel, renderer: Renderer) -> None:
    told = _trace(mini, renderer, prompt="Once upon", path=(700, 701), max_tokens=5, tiers=("A",))
    assert [t["text"] for t in told["prompt_tokens"]] == [renderer.tokenizer.token_text(i) for i in renderer.tokenizer.encode("Once upon")]
    for side in ("tuned", "base_side"):
        path = told[side]["path"]
        assert [step["id"] for step in path[:2]] == [700, 701]
        assert [step["forced"] for step in path[:3]] == [True, True, False]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": ({"role": "user", "content": "word " * 300},)}, "messages"),
        ({"prompt": "word " * 300}, "prompt"),
        ({"path": (8192,)}, "path"),
        ({"layer": 8}, "layer"),
        ({"token": 99}, "token"),
    ],
)
def test_what_is_out_of_bounds_is_refused(mini: LanguageModel, renderer: Renderer, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        _trace(mini, renderer, **fields)
    assert refused.value.param == param


def test_the_longest_trace_stays_within_its_bound(mini: LanguageModel, renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    # The longest answer: no token ends it.
    monkeypatch.setattr(renderer, "stop_ids", frozenset())
    told = _trace(mini, renderer, messages=LONG, max_tokens=64, token=1)
    assert len(told["prompt_tokens"]) > 200
    assert len(told["tuned"]["path"]) == len(told["base_side"]["path"]) == 64
    size = len(json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode())
    assert size <= MAX_REPLY_BYTES - 30_000
    assert len(told["layers"]["positions"]) == 128
    assert {m["tier"] for m in told["missing"]} >= {"B", "C"}
    monkeypatch.setattr(tracing, "MAX_REPLY_BYTES", 300_000)
    small = _trace(mini, renderer, messages=LONG, max_tokens=64)
    assert len(json.dumps(small, ensure_ascii=False, separators=(",", ":")).encode()) <= 300_000
    assert [len(step["top"]) for step in small["tuned"]["path"][:2]] == [20, 5]
    assert small["attention"]["queries"] == small["attention"]["queries"][: len(small["attention"]["mean"])]


def test_a_model_on_the_complete_path_is_traced_as_well(renderer: Renderer, tmp_path: Path) -> None:
    model = load_model(build("gpt2", tmp_path / "gpt2", seed=5))
    model.add_adapter("tuned", rank=4, alpha=8.0, seed=1)
    for number, parameter in enumerate(model.adapter_parameters("tuned")):
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
    lease = replace(_lease(model, renderer, "tuned"), max_length=200), replace(_lease(model, renderer, None), max_length=200)
    asked = TracePrediction(target=TUNED, base=BASE, messages=SAID, max_tokens=5, tiers=("A", "B", "C"))
    *_, text = traced(asked, *lease)
    assert text is not None
    told = json.loads(text)
    assert told["missing"] == []
    ids = [step["id"] for step in told["tuned"]["path"]]
    assert ids != [step["id"] for step in told["base_side"]["path"]]
    assert told["layers"]["tuned"]["top"][-1][-len(ids) :] == ids
    assert {c["layer"] for c in told["adapter"]} == {0, 1}
    assert told["attention"]["heads"] == 4
