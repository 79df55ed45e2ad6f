"""Costs: the operator's own, and OpenAI's last price for the same tokens."""

import pytest

from luthier.core.errors import InvalidRequest
from luthier.core.prices import OPENAI_PRICES_FROM, openai_prices, own_cost
from luthier.core.settings import Settings, from_environment


def test_without_a_price_there_is_no_cost() -> None:
    assert own_cost(Settings(), seconds=3600, tokens=10) is None


def test_hours_and_tokens_are_added() -> None:
    settings = Settings(price_per_hour=3.0, price_per_million_tokens=2.0)
    assert own_cost(settings, seconds=1800, tokens=500_000) == pytest.approx(1.5 + 1.0)


def test_a_dated_name_has_its_own_models_price() -> None:
    (price,) = openai_prices(Settings(), "gpt-4o-mini-2024-07-18", 2_000_000)
    assert (price.model, price.per_million_tokens, price.amount, price.source) == ("gpt-4o-mini", 3.0, 6.0, OPENAI_PRICES_FROM)
    (price,) = openai_prices(Settings(), "gpt-4o-2024-08-06", 1_000_000)
    assert (price.model, price.amount) == ("gpt-4o", 25.0)


def test_an_open_model_is_shown_beside_each_known_price() -> None:
    assert {price.model for price in openai_prices(Settings(), "luthier-mini", 1000)} == {"gpt-4o", "gpt-4o-mini"}


def test_prices_can_be_set() -> None:
    settings = from_environment({"LUTHIER_OPENAI_PRICES": '{"gpt-4.1": "7.5"}'})
    (price,) = openai_prices(settings, "gpt-4.1-2025-04-14", 2_000_000)
    assert (price.amount, price.source) == (15.0, "LUTHIER_OPENAI_PRICES")


@pytest.mark.parametrize("variable", ["PRICE_PER_HOUR", "PRICE_PER_MILLION_TOKENS", "TRAIN_MEMORY_BYTES"])
def test_a_negative_price_stops_the_start(variable: str) -> None:
    with pytest.raises(InvalidRequest, match=f"LUTHIER_{variable}"):
        from_environment({f"LUTHIER_{variable}": "-1"})


@pytest.mark.parametrize("text", ["free", "-1", "nan", "inf"])
def test_a_price_is_a_number(text: str) -> None:
    with pytest.raises(InvalidRequest, match="OPENAI_PRICES"):
        from_environment({"LUTHIER_OPENAI_PRICES": f'{{"gpt-4o": "{text}"}}'})
