"""Attention of one new token on a CPU: 16-bit numbers become float32 between the rounded ends, whatever the slots' lengths; others stay."""

import pytest
import torch
import torch.nn.functional as F

from luthier.models.decoder import DecoderModel
from luthier.models.load import load_model
from tests.support.tiny_models import build


@pytest.mark.parametrize(
    ("dtype", "within"),
    [(torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_numbers_are_attended_in_float32_at_least(tmp_path, monkeypatch, dtype, within, family):
    model = load_model(build(family, tmp_path / "m"), dtype=dtype)
    assert isinstance(model, DecoderModel)
    asked, real = [], F.scaled_dot_product_attention

    def noted(query, keys, values, **options):
        asked.append((query.dtype, keys.dtype, values.dtype, options["attn_mask"] is None or options["attn_mask"].dtype))
        return real(query, keys, values, **options)

    monkeypatch.setattr("luthier.models.decoder_step.F.scaled_dot_product_attention", noted)
    cache = model.new_cache(2, 16)
    for slot, ids in enumerate(([5, 6, 7], [8, 9, 10, 11, 12])):
        model.prefill(cache, slot, ids)
    stepped = model.decode(cache, [0, 1], [20, 21])
    assert set(asked) == {(within,) * 4}, "queries, keys, values and the mask of unequal lengths"
    whole = [model.prefill(cache, slot, ids) for slot, ids in enumerate(([5, 6, 7, 20], [8, 9, 10, 11, 12, 21]))]
    near = 0.05 if dtype.itemsize == 2 else 1e-4
    torch.testing.assert_close(stepped, torch.stack(whole), atol=near, rtol=near)
