"""A look into the fast decoder: the same blocks as in serving, with what each adds written down. Called by ``decoder.py``.

What it does: one forward over a short row, a block at a time, so that other work can go on in between. What it does not: change the
blocks; ``block_forward`` keeps what is needed on its tape anyway.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from luthier.models.decoder_layer import Frame, LayerAdapter, Tape, block_forward, project
from luthier.models.decoder_weights import LayerWeights
from luthier.models.probe import LensRows, Probe, best, mean_norm, rows_at_once


def probe_blocks(
    x_Th: Tensor,
    blocks: Iterable[tuple[LayerWeights, LayerAdapter | None, Frame]],
    head: Callable[[Tensor], Tensor],
    positions_N: Tensor,
    *,
    vocab_size: int,
    attention_layer: int | None,
) -> Iterator[Probe | None]:
    """None after each block, and last the probe. ``head`` is the final norm and the output matrix."""
    rows, attention, norms = LensRows(), None, x_Th.norm(dim=-1)
    for index, (layer, low, frame) in enumerate(blocks):
        with torch.inference_mode():
            tape = Tape()
            out = block_forward(x_Th, layer, low, frame, tape)
            attended = project(tape.attended, layer.o, low.o if low else None)[0]
            at = out[positions_N]
            rows.residual.append(mean_norm(at))
            rows.attention.append(mean_norm(attended[positions_N]))
            rows.mlp.append(mean_norm(at - x_Th[positions_N] - attended[positions_N]))
            pairs = [best(head(piece)) for piece in at.split(rows_at_once(vocab_size))]
            rows.top.append(torch.cat([ids for ids, _ in pairs]))
            rows.probability.append(torch.cat([probability for _, probability in pairs]))
            if index == attention_layer:
                length = frame.length
                attention = tape.probabilities.view(frame.config.num_heads, length, length)
            x_Th = out
        yield None
    yield rows.probe(norms, attention)
