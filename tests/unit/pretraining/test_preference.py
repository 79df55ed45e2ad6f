"""DPO over a tiny real model, the split, and the patterns that tell *vous* from *tu*."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from luthier.core.conversation import conversation_of
from pretraining.errors import PretrainingError
from pretraining.evaluation import preference
from pretraining.evaluation.formality import form_of, shown_forms
from pretraining.evaluation.policy import Exchange, Policy, answer_logprobs, generate, total_logprobs
from tests.support import tiny_models

SETTINGS = preference.Settings(batch_size=4, sft_rate=5e-3, dpo_epochs=6, dpo_rate=5e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build("llama", tmp_path_factory.mktemp("preference") / "tiny")


@pytest.fixture
def policy(folder: Path) -> Policy:
    return Policy.load(folder, seed=1)


def _plain(number: int) -> dict:
    return {
        "input": {"messages": [{"role": "user", "content": f"Translate: item {number} is for you."}]},
        "preferred_output": [{"role": "assistant", "content": f"Le {number} est pour vous."}],
        "non_preferred_output": [{"role": "assistant", "content": f"Le {number} est pour toi."}],
    }


def _pairs(policy: Policy, count: int = 16) -> list[preference.Pair]:
    return [preference._pair(policy, preference._row(_plain(number))) for number in range(count)]


def test_the_loss_begins_at_ln_2_on_a_fresh_adapter_with_the_base_as_reference(policy: Policy) -> None:
    pairs = _pairs(policy)
    reference = preference.reference_logprobs(policy.model, pairs)
    steps = preference.prefer(policy, pairs, reference, settings=SETTINGS, seed=1)
    assert steps[0].loss == pytest.approx(math.log(2), abs=1e-4)


def test_the_loss_begins_at_ln_2_after_a_supervised_step_too(policy: Policy) -> None:
    pairs = _pairs(policy)
    base = preference.reference_logprobs(policy.model, pairs)
    preference.supervise(policy, preference.neutral_mixture(pairs, 1), settings=SETTINGS, seed=1)
    with policy.tuned():
        reference = preference.reference_logprobs(policy.model, pairs)
    assert (reference - base).abs().max() > 0.1
    steps = preference.prefer(policy, pairs, reference, settings=SETTINGS, seed=1)
    assert steps[0].loss == pytest.approx(math.log(2), abs=1e-4)


def test_the_margin_grows_and_the_base_stays(policy: Policy) -> None:
    pairs = _pairs(policy)
    reference = preference.reference_logprobs(policy.model, pairs)
    before = preference.measure_preference(policy, pairs, reference)
    preference.prefer(policy, pairs, reference, settings=SETTINGS, seed=1)
    after = preference.measure_preference(policy, pairs, reference)
    assert before.margin == pytest.approx(0, abs=1e-4)
    assert after.margin > before.margin + 0.1
    assert after.accuracy == 1.0
    assert after.loss < before.loss
    assert torch.equal(preference.reference_logprobs(policy.model, pairs), reference)


def test_turned_pairs_are_learned_the_other_way(policy: Policy) -> None:
    pairs = _pairs(policy)
    turned = [preference.Pair(pair.non_preferred, pair.preferred) for pair in pairs]
    reference = preference.reference_logprobs(policy.model, pairs)
    preference.prefer(policy, turned, reference.flip(0), settings=SETTINGS, seed=1)
    assert preference.measure_preference(policy, pairs, reference).margin < -0.1


def test_losses_by_hand() -> None:
    losses, margins = preference.dpo_losses(torch.tensor([[-3.0, -1.0], [-5.0, -1.0]]), torch.tensor([[-4.0, -1.0], [-4.0, -3.0]]))
    assert margins.tolist() == pytest.approx([0.2, -0.2])
    assert losses.tolist() == pytest.approx([math.log1p(math.exp(-0.2)), math.log1p(math.exp(0.2))])


def test_supervised_steps_lower_the_loss_and_the_mixture_is_half_and_half(policy: Policy) -> None:
    pairs = _pairs(policy)
    mixture = preference.neutral_mixture(pairs, 5)
    assert sum(one == pair.preferred for one, pair in zip(mixture, pairs, strict=True)) == 8
    losses = preference.supervise(policy, mixture, settings=replace(SETTINGS, sft_epochs=4), seed=1)
    assert losses[-1] < losses[0] - 0.1


def test_an_answers_log_probability_is_the_sum_over_its_tokens_alone(policy: Policy) -> None:
    exchanges = [Exchange((8, 300, 5, 9), (40, 41, 5)), Exchange((8, 9), (77, 5))]
    by_hand = []
    for one in exchanges:
        ids = torch.tensor([[*one.prompt, *one.answer]])
        columns = torch.arange(ids.shape[1])
        logprobs = policy.model.logits_at(ids, torch.tensor([ids.shape[1]]), torch.zeros_like(columns), columns).log_softmax(-1)
        by_hand.append(sum(float(logprobs[t - 1, ids[0, t]]) for t in range(len(one.prompt), ids.shape[1])))
    assert total_logprobs(policy.model, exchanges).tolist() == pytest.approx(by_hand, rel=1e-5)
    assert answer_logprobs(policy.model, exchanges)[1].tolist() == [0, 0, 0, 1, 1]


def test_an_exchange_holds_the_prompt_that_generation_reads_and_the_end_of_the_turn(policy: Policy) -> None:
    messages = [{"role": "user", "content": "Bonjour"}, {"role": "assistant", "content": "Salut"}, {"role": "user", "content": "Encore"}]
    exchange = policy.exchange(messages, "Bien sûr.")
    assert exchange.prompt == policy.prompt(messages)
    assert exchange.answer[-1] in policy.stop_ids
    assert policy.text(exchange.answer) == "Bien sûr."


def test_an_answer_that_nothing_is_learned_from_is_refused(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = policy.renderer.prompt(conversation_of([{"role": "user", "content": "Bonjour"}]))
    monkeypatch.setattr(policy.renderer, "example", lambda _: rendered)
    with pytest.raises(PretrainingError, match="without tokens"):
        policy.exchange([{"role": "user", "content": "Bonjour"}], "")


def test_batched_answers_equal_those_asked_alone_and_copies_of_a_prompt_change_nothing(policy: Policy) -> None:
    prompts = [(8, 300, 301, 9), (8, 9), (8, 300, 301, 9), (8, 500, 501, 502, 503, 9)] * 20
    together = generate(policy.model, prompts, (), max_new_tokens=6)
    alone = {prompt: generate(policy.model, [prompt], (), max_new_tokens=6)[0] for prompt in set(prompts)}
    assert together == [alone[prompt] for prompt in prompts]
    assert generate(policy.model, [], (), max_new_tokens=6) == []


def test_an_answer_ends_with_its_stop_token(policy: Policy) -> None:
    whole = generate(policy.model, [(8, 300, 9)], (), max_new_tokens=6)[0]
    stop = whole[2]
    assert generate(policy.model, [(8, 300, 9)], {stop}, max_new_tokens=6)[0] == whole[: whole.index(stop) + 1]


def test_the_split_is_by_prompt_and_its_test_part_does_not_depend_on_the_training_size() -> None:
    rows = [preference._row(_plain(number % 30)) for number in range(60)]
    small, large = (preference.split_by_prompt(rows, num_train=n, num_test=8) for n in (5, 20))
    assert small[1] == large[1]
    assert len({row.messages[0]["content"] for part in large for row in part}) == 28
    with pytest.raises(PretrainingError, match="30"):
        preference.split_by_prompt(rows, num_train=25, num_test=8)


def test_a_whole_measurement_of_an_example(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("sacrebleu")
    for name, numbers in (("train", range(12)), ("valid", range(12, 18))):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(_plain(number)) + "\n" for number in numbers))
    result = preference.measure_formality_example(folder, tmp_path, 3, settings=replace(SETTINGS, dpo_epochs=1))
    dpo, rows = result["dpo"], result["rows"]
    assert isinstance(dpo, dict)
    assert isinstance(rows, list)
    assert dpo["loss_at_step_0"] == pytest.approx(math.log(2), abs=1e-4)
    assert [set(row) for row in rows] == [{"base_vous", "sft_vous", "tuned_vous"}] * 6
    assert json.loads(json.dumps(result)) == result
    (tmp_path / "valid.jsonl").write_text(json.dumps(_plain(3)) + "\n")
    with pytest.raises(PretrainingError, match="1 prompts are in both"):
        preference.measure_formality_example(folder, tmp_path, 3)


def test_a_missing_file_or_a_row_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PretrainingError, match="does not exist"):
        preference.measure_formality(tmp_path, tmp_path / "none.jsonl", 1)
    with pytest.raises(PretrainingError, match="preference row"):
        preference._row({"messages": []})


@pytest.mark.parametrize(
    "text",
    [
        "Vous êtes en retard.",
        "Où est votre chien ?",
        "C’est à vous.",
        "Ce livre est le vôtre.",
        "Venez ici !",
        "Ne partez pas.",
        "S'il vous plaît.",
        "Laissez-moi entrer.",
        "Dites-moi la vérité.",
        "Faites attention !",
        "Ne le faites pas.",
        "Rendez-vous compte !",
        "Rentrez-vous ?",
        "J'aime votre ton.",
        "Bonjour. Écoutez bien.",
    ],
)
def test_vous(text: str) -> None:
    assert form_of(text) == 1


@pytest.mark.parametrize(
    "text",
    [
        "Tu es en retard.",
        "Où est ton chien ?",
        "Est-ce ton vélo ?",
        "Je t'aime.",
        "Je t’aime.",
        "C'est à toi.",
        "TA voiture est là.",
        "Tes amis sont venus.",
        "Je te vois.",
        "Va-t'en !",
        "Ce livre est le tien.",
        "Dis-moi la vérité.",
        "Donne-le-moi.",
        "Viens-tu chez nous ?",
    ],
)
def test_tu(text: str) -> None:
    assert form_of(text) == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Il est en retard.",
        "A-t-il mangé ?",
        "A-t'il mangé ?",
        "Il a assez de riz chez lui.",
        "Le nez de Gomez est rouge.",
        "J'ai un rendez-vous demain.",
        "Le ton monte.",
        "Sommes-nous seuls ?",
        "Avons-nous le temps ?",
        "Les choses sont bien faites.",
        "Elles sont dites.",
        "Il faut que nous y allions.",
        "Le vousoiement et la tutelle.",
        "Viens ici.",
    ],
)
def test_no_form(text: str) -> None:
    assert form_of(text) is None


def test_both_forms_are_no_form() -> None:
    assert shown_forms("Dis-moi où vous êtes.") == (True, True)
    assert form_of("Dis-moi où vous êtes.") is None
