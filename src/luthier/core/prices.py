"""What a job costs: at the operator's own price, in energy, and what the same tokens cost at OpenAI last.

What it does: arithmetic over a forecast and the settings. What it does not: know a price of a device; the operator sets it.
Called by ``worker/forecast_job.py`` and ``cli/render/forecast.py``.
"""

from dataclasses import dataclass
from typing import Any

from luthier.core.settings import Settings

# Dollars per million training tokens of supervised jobs, as a digest of 2026 gives them (a secondary source: the seller's own page
# no longer lists them). Other names have no documented price here; LUTHIER_OPENAI_PRICES adds or changes them.
OPENAI_PRICES: dict[str, float] = {"gpt-4o": 25.0, "gpt-4o-mini": 3.0}
OPENAI_PRICES_FROM = "a digest of 2026"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIPrice:
    """The same tokens there."""

    model: str
    per_million_tokens: float
    """Dollars."""
    amount: float
    """Dollars for the job's tokens."""
    source: str
    """Where the price comes from."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "model": self.model,
            "per_million_tokens": self.per_million_tokens,
            "amount": self.amount,
            "currency": "USD",
            "source": self.source,
        }


def own_cost(settings: Settings, *, seconds: float, tokens: int) -> float | None:
    """The job at the operator's price, in ``settings.currency``; None where no price is set. Both prices, if set, are added."""
    if not settings.price_per_hour and not settings.price_per_million_tokens:
        return None
    return settings.price_per_hour * seconds / 3600 + settings.price_per_million_tokens * tokens / 1e6


def openai_prices(settings: Settings, asked: str, tokens: int) -> tuple[OpenAIPrice, ...]:
    """What the tokens cost at OpenAI: for the model that was asked for where its price is known, else for each known one.

    The tokens are counted by the open model's tokenizer; OpenAI's own would count somewhat differently.
    """
    table = {name: (price, OPENAI_PRICES_FROM) for name, price in OPENAI_PRICES.items()}
    table |= {name: (float(text), "LUTHIER_OPENAI_PRICES") for name, text in settings.openai_prices.items()}
    # gpt-4o-mini-2024-07-18 is gpt-4o-mini, and not gpt-4o: the longest name that is the whole or is followed by a date.
    own = [name for name in table if asked == name or asked.startswith(f"{name}-2")]
    chosen = [max(own, key=len)] if own else list(table)
    return tuple(
        OpenAIPrice(model=name, per_million_tokens=table[name][0], amount=table[name][0] * tokens / 1e6, source=table[name][1])
        for name in chosen
    )
