"""``luthier.range_test``: with which other fields it has a meaning, and what is said where it has none."""

from typing import Any

import openai
import pytest

from tests.contract.test_fine_tuning import BASE_NAME, create, refused
from tests.support.api_server import ApiServer

GIVEN = "finds the learning rate, and 'learning_rate_multiplier' gives one. Leave one of them out."
RATE = {"learning_rate_multiplier": 2.0}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"hyperparameters": RATE}, GIVEN),
        ({"method": {"type": "supervised", "supervised": {"hyperparameters": RATE}}}, GIVEN),
        (
            {"method": {"type": "dpo", "dpo": {}}},
            "is for the method 'supervised'; a job of the method 'dpo' takes the automatic rate or the one that it is given.",
        ),
    ],
)
def test_it_is_for_automatic_rates_of_supervised_jobs(server: ApiServer, training_file: str, fields: dict[str, Any], sentence: str) -> None:
    error = refused(server, {"model": BASE_NAME, "training_file": training_file, "luthier": {"range_test": True}, **fields})
    assert error["message"] == f"'luthier.range_test' {sentence}"
    assert (error["code"], error["param"]) == ("invalid_parameter_combination", "luthier.range_test")


def test_it_is_true_or_false(server: ApiServer, training_file: str) -> None:
    error = refused(server, {"model": BASE_NAME, "training_file": training_file, "luthier": {"range_test": "always"}})
    assert (error["code"], error["param"]) == ("invalid_type", "luthier.range_test")


def test_one_that_is_not_asked_for_is_no_contradiction(client: openai.OpenAI, training_file: str) -> None:
    made = create(client, training_file, extra_body={"luthier": {"range_test": False}}, hyperparameters=RATE)
    assert made.hyperparameters.learning_rate_multiplier == 2.0
    asked = create(client, training_file, extra_body={"luthier": {"range_test": True}}, hyperparameters={"n_epochs": 2})
    assert asked.luthier["options"] == {"range_test": True}
