"""Our own options of a job in ``extra_body={"luthier": {...}}``: what is wrong is refused by name."""

from typing import Any

import pytest

from luthier.api import training_options
from tests.support.api_server import ApiServer

BASE_NAME = "gpt-4o-mini-2024-07-18"


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"luthier": {"adapter": "full", "rank": 4}}, "invalid_parameter_combination", "luthier.rank"),
        ({"luthier": {"adapter": "full", "targets": "mlp"}}, "invalid_parameter_combination", "luthier.targets"),
        ({"luthier": {"adapter": "full", "quantization": "nf4"}}, "invalid_parameter_combination", "luthier.quantization"),
        ({"luthier": {"quantization": "int8"}}, "invalid_value", "luthier.quantization"),
        ({"luthier": {"adapter": "ia3"}}, "invalid_value", "luthier.adapter"),
        ({"luthier": {"adapter": "DoRA"}}, "invalid_value", "luthier.adapter"),
        ({"luthier": {"targets": []}}, "array_below_min_length", "luthier.targets"),
        ({"luthier": {"schedule": "step"}}, "invalid_value", "luthier.schedule"),
        ({"luthier": {"warmup_ratio": 1.0}}, "decimal_above_max_value", "luthier.warmup_ratio"),
        ({"luthier": {"warmup_ratio": 0.1, "warmup_steps": 3}}, "invalid_parameter_combination", "luthier.warmup_ratio"),
        ({"luthier": {"min_rate_ratio": 0.1, "schedule": "constant"}}, "invalid_parameter_combination", "luthier.min_rate_ratio"),
        ({"luthier": {"optimizer": "sgd", "beta2": 0.9}}, "invalid_parameter_combination", "luthier.beta2"),
        ({"luthier": {"weight_decay": -0.1}}, "decimal_below_min_value", "luthier.weight_decay"),
        ({"luthier": {"early_stopping": True}}, "invalid_parameter_combination", "luthier.early_stopping"),
        ({"luthier": {"keep": "best"}}, "invalid_parameter_combination", "luthier.keep"),
        ({"luthier": {"keep": "first"}}, "invalid_value", "luthier.keep"),
        ({"luthier": {"early_stopping": {"patience": 0}}}, "integer_below_min_value", "luthier.early_stopping.patience"),
        ({"luthier": {"early_stopping": {"waiting": 1}}}, "unknown_parameter", "luthier.early_stopping.waiting"),
        ({"luthier": {"early_stopping": "yes"}}, "invalid_type", "luthier.early_stopping"),
        ({"luthier": {"max_skipped_steps": -1}}, "integer_below_min_value", "luthier.max_skipped_steps"),
        ({"luthier": {"on_loss_spike": "stop"}}, "invalid_value", "luthier.on_loss_spike"),
        ({"luthier": {"packing": "always"}}, "invalid_value", "luthier.packing"),
        ({"luthier": {"neftune_alpha": 0}}, "decimal_below_min_value", "luthier.neftune_alpha"),
        ({"luthier": {"neftune_alpha": 100.5}}, "decimal_above_max_value", "luthier.neftune_alpha"),
        ({"luthier": {"neftune_alpha": 5}, "method": {"type": "dpo"}}, "invalid_parameter_combination", "luthier.neftune_alpha"),
        ({"luthier": {"prompt_loss_weight": -0.1}}, "decimal_below_min_value", "luthier.prompt_loss_weight"),
        ({"luthier": {"prompt_loss_weight": 1.5}}, "decimal_above_max_value", "luthier.prompt_loss_weight"),
        (
            {"luthier": {"prompt_loss_weight": 0.1}, "method": {"type": "dpo"}},
            "invalid_parameter_combination",
            "luthier.prompt_loss_weight",
        ),
        ({"luthier": {"preference_loss": "ipo"}}, "invalid_value", "luthier.preference_loss"),
        ({"luthier": {"preference_loss": "orpo"}}, "invalid_parameter_combination", "luthier.preference_loss"),
        ({"luthier": {"max_grad_norm": 0}}, "decimal_below_min_value", "luthier.max_grad_norm"),
        ({"luthier": {"targets": ["q_proj", "a/b"]}}, "invalid_value", "luthier.targets[1]"),
    ],
)
def test_bad_options_are_400_in_openais_codes(server: ApiServer, training_file: str, fields: dict[str, Any], code: str, param: str) -> None:
    with server.http() as http:
        answer = http.post("/v1/fine_tuning/jobs", json={"model": BASE_NAME, "training_file": training_file, **fields})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["param"], error["type"]) == (code, param, "invalid_request_error")


def test_a_base_in_4_bits_is_refused_where_its_library_is_missing(
    server: ApiServer, training_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"adapter": "rslora", "quantization": "nf4"}
    body = {"model": BASE_NAME, "training_file": training_file, "luthier": asked}
    monkeypatch.setattr(training_options, "is_installed", lambda: False)
    with server.http() as http:
        refused = http.post("/v1/fine_tuning/jobs", json=body)
        monkeypatch.setattr(training_options, "is_installed", lambda: True)
        taken = http.post("/v1/fine_tuning/jobs", json=body)
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_value", "luthier.quantization")
    assert error["message"] == (
        "'luthier.quantization': 'nf4' needs the library bitsandbytes, which is not installed on this server. Install it with "
        "pip install 'luthier[qlora]', or leave the option out."
    )
    assert taken.json()["luthier"]["options"] == asked
