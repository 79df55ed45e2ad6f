import json

import pytest

from luthier.core.prediction import settled_layer, short, why
from tests.support.sample_trace import sample_trace


@pytest.mark.parametrize(("top", "layer"), [((4,), 0), ((4, 4, 4), 0), ((1, 4, 4), 1), ((4, 1, 4), 2), ((4, 4, 1), 2)])
def test_a_token_is_settled_where_it_stays_on_top(top: tuple[int, ...], layer: int) -> None:
    assert settled_layer(top) == layer


def test_numbers_are_short_and_finite() -> None:
    assert short(0.123456789) == 0.123457
    assert short(-1.5e-12) == -1.5e-12
    assert short(float("-inf")) is None
    assert short(float("nan")) is None


def test_a_trace_becomes_json_with_every_part() -> None:
    plain = json.loads(json.dumps(sample_trace().to_dict()))
    assert plain["tuned"]["path"][0]["top"][1] == {"id": 8, "token": "no", "probability": 0.1, "logprob": -2.3}
    assert plain["layers"]["tuned"]["top"] == [[3, 5], [7, 5]]
    assert plain["layers"]["base"] is None
    assert plain["missing"] == [{"tier": "B", "reason": "A sample."}]


def test_the_most_shifted_tokens_and_the_layers_at_which_the_answer_appears() -> None:
    trace = sample_trace()
    told = why(trace.forced, trace.layers, 2)
    assert told is not None
    assert [(t["index"], t["change"]) for t in told["most_shifted"]] == [(0, 4.0), (1, 0.15)]
    assert told["first_layers"] == [
        {"index": 0, "id": 7, "text": "Bonjour", "tuned_layer": 1, "base_layer": None},
        {"index": 1, "id": 5, "text": "<|end|>", "tuned_layer": 0, "base_layer": None},
    ]
    assert len((why(trace.forced, None, 2, most=1) or {})["most_shifted"]) == 1
    assert why(None, None, 2) is None
