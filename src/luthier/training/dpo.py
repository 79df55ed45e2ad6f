"""Direct preference optimisation: learning from pairs of answers of which one is preferred.

Rafailov et al. 2023 (arXiv:2305.18290), equation 7. With policy pi, reference ref and a pair of answers w (preferred) and l to x:

    loss = -log sigmoid(beta * ((log pi(w|x) - log ref(w|x)) - (log pi(l|x) - log ref(l|x))))

What it does: the loss. What it does not: the reference and the rewards (``against_reference.py``). Called through ``methods.py``.
"""

import torch.nn.functional as F
from torch import Tensor


def dpo_loss(rewards_P2: Tensor) -> Tensor:
    """Nats, (P,), from the rewards of preferred and other answers, (P, 2). ln 2 where they are equal."""
    return -F.logsigmoid(rewards_P2[:, 0] - rewards_P2[:, 1])
