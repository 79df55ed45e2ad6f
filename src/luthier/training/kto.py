"""Kahneman-Tversky optimisation without its KL term: each answer is good or bad by itself, and surprise counts less the larger it is.

Ethayarajh et al. 2024 (arXiv:2402.01306), with both answers of a pair as one desirable and one undesirable example,
lambda_D = lambda_U = 1 and the reference point z0 = 0. With an answer's reward r = beta * (log pi(y|x) - log ref(y|x)):

    desirable: loss = 1 - sigmoid(r)        undesirable: loss = 1 - sigmoid(-r)

z0, the paper's estimate of the KL divergence from mismatched prompts and answers, needs further rows in every forward and in the
reference, and one pass over a step before its first micro-batch. With z0 = 0 this is the loss of D'Oosterlinck et al. 2024
(arXiv:2408.06266) that TRL calls ``apo_zero_unpaired``.

What it does: the loss. What it does not: the reference and the rewards (``against_reference.py``). Called through ``methods.py``.
"""

from torch import Tensor


def kto_loss(rewards_P2: Tensor) -> Tensor:
    """(P,), without a unit, from 0 to 1: the mean over a pair's two examples, from their rewards, (P, 2). One half where both are 0."""
    return ((-rewards_P2[:, 0]).sigmoid() + rewards_P2[:, 1].sigmoid()) / 2
