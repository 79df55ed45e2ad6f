"""The decoder's weights, and their names in Hugging Face's files.

What it does: modules that hold fused weights (q, k, v in one matrix; gate and up in one), reading them from safetensors, packed into 4 bits
where that is asked for, and writing them back. What it does not: compute. Called by ``decoder.py``.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from luthier.core.errors import InvalidRequest
from luthier.models.decoder_config import DecoderConfig
from luthier.models.head import Head
from luthier.models.matrix import Matrix
from luthier.models.nf4 import Nf4Weight, Room
from luthier.models.rounding import rounded

Piece = tuple[str, int]
"""Name in the file, rows it takes in the fused tensor."""
_MATRICES = ("qkv", "o", "gate_up", "down")


def _frozen(*shape: int, dtype: torch.dtype, device: str) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape, dtype=dtype, device=device), requires_grad=False)


class LayerWeights(nn.Module):
    """One block: attention and MLP with their norms. Letters: h width, q/k/v heads, m MLP width.

    Where its matrices are to be packed they take no memory before ``pack``, and are no parameters after it.
    """

    def __init__(self, config: DecoderConfig, dtype: torch.dtype, device: str, *, packed: bool = False) -> None:
        super().__init__()
        c, own = config, "meta" if packed else device
        qkv_size = c.q_size + 2 * c.kv_size
        self.attention_norm = _frozen(c.hidden_size, dtype=dtype, device=device)
        self.qkv_weight = _frozen(qkv_size, c.hidden_size, dtype=dtype, device=own)
        self.qkv_bias = _frozen(qkv_size, dtype=dtype, device=device) if c.qkv_bias else None
        self.q_norm = _frozen(c.head_dim, dtype=dtype, device=device) if c.qk_norm else None
        self.k_norm = _frozen(c.head_dim, dtype=dtype, device=device) if c.qk_norm else None
        self.o_weight = _frozen(c.hidden_size, c.q_size, dtype=dtype, device=own)
        self.mlp_norm = _frozen(c.hidden_size, dtype=dtype, device=device)
        self.gate_up_weight = _frozen(2 * c.mlp_size, c.hidden_size, dtype=dtype, device=own)
        self.down_weight = _frozen(c.hidden_size, c.mlp_size, dtype=dtype, device=own)
        self.qkv = Matrix(self.qkv_weight)
        self.o = Matrix(self.o_weight)
        self.gate_up = Matrix(self.gate_up_weight)
        self.down = Matrix(self.down_weight)

    def pack(self, parameter: nn.Parameter, dense: Tensor, room: Room) -> None:
        """Where ``parameter`` is one of this block's matrices, hold ``dense``, its numbers, in 4 bits."""
        for name in _MATRICES:
            if getattr(self, f"{name}_weight") is parameter:
                getattr(self, name).weight = Nf4Weight(dense, dtype=parameter.dtype, room=room)
                setattr(self, f"{name}_weight", None)


class DecoderWeights(nn.Module):
    """All weights. ``head_weight`` is the embedding itself where the head is tied."""

    def __init__(self, config: DecoderConfig, dtype: torch.dtype, device: str, *, packed: bool = False) -> None:
        super().__init__()
        self.embedding = _frozen(config.vocab_size, config.hidden_size, dtype=dtype, device=device)
        self.layers = nn.ModuleList(LayerWeights(config, dtype, device, packed=packed) for _ in range(config.num_layers))
        self.final_norm = _frozen(config.hidden_size, dtype=dtype, device=device)
        self.head_weight = (
            self.embedding if config.tied_head else _frozen(config.vocab_size, config.hidden_size, dtype=dtype, device=device)
        )
        self.head = Head(self.head_weight)
        self.blocks: tuple[LayerWeights, ...] = tuple(m for m in self.layers if isinstance(m, LayerWeights))
        self.matrices: tuple[Matrix, ...] = (self.head, *(m for b in self.blocks for m in (b.qkv, b.o, b.gate_up, b.down)))


def _pieces(config: DecoderConfig, weights: DecoderWeights) -> Iterator[tuple[nn.Parameter, list[Piece]]]:
    """Each fused tensor with the file's tensors that make it up, top to bottom."""
    c = config
    yield weights.embedding, [("model.embed_tokens.weight", c.vocab_size)]
    for i, layer in enumerate(weights.blocks):
        base = f"model.layers.{i}."
        qkv = (("q", c.q_size), ("k", c.kv_size), ("v", c.kv_size))
        yield layer.attention_norm, [(base + "input_layernorm.weight", c.hidden_size)]
        yield layer.qkv_weight, [(f"{base}self_attn.{n}_proj.weight", size) for n, size in qkv]
        if layer.qkv_bias is not None:
            yield layer.qkv_bias, [(f"{base}self_attn.{n}_proj.bias", size) for n, size in qkv]
        if layer.q_norm is not None and layer.k_norm is not None:
            yield layer.q_norm, [(base + "self_attn.q_norm.weight", c.head_dim)]
            yield layer.k_norm, [(base + "self_attn.k_norm.weight", c.head_dim)]
        yield layer.o_weight, [(base + "self_attn.o_proj.weight", c.hidden_size)]
        yield layer.mlp_norm, [(base + "post_attention_layernorm.weight", c.hidden_size)]
        yield layer.gate_up_weight, [(f"{base}mlp.{n}_proj.weight", c.mlp_size) for n in ("gate", "up")]
        yield layer.down_weight, [(base + "mlp.down_proj.weight", c.hidden_size)]
    yield weights.final_norm, [("model.norm.weight", c.hidden_size)]
    if not c.tied_head:
        yield weights.head_weight, [("lm_head.weight", c.vocab_size)]


def read_weights(folder: Path, config: DecoderConfig, *, dtype: torch.dtype, device: str, packed: bool = False) -> DecoderWeights:
    """Read all weights of a folder.

    Args:
        folder: with safetensors.
        config: of its model.
        dtype, device: of the weights in memory; of packed ones, when they are unpacked.
        packed: hold the blocks' matrices in 4 bits; at no time is more than one of them there as it was read.

    Raises:
        InvalidRequest: a tensor is missing or has another shape than config.json says, a file is torn, or bitsandbytes is not installed.
    """
    weights = DecoderWeights(config, dtype, device, packed=packed)
    files, room = _find_all(folder), Room()
    for parameter, pieces in _pieces(config, weights):
        whole = torch.empty(parameter.shape, dtype=torch.float32, device=device) if parameter.is_meta else parameter.data
        row = 0
        for name, size in pieces:
            if name not in files:
                raise InvalidRequest(f"The weights of {folder.name} lack {name}.")
            # Opened anew: what was read through a file stays in memory for as long as it is open.
            with safe_open(files[name], framework="pt") as file:
                tensor = file.get_tensor(name)
            if tuple(tensor.shape) != (size, *parameter.shape[1:]):
                raise InvalidRequest(
                    f"{name} of {folder.name} has shape {tuple(tensor.shape)}; config.json asks for {(size, *parameter.shape[1:])}."
                )
            whole[row : row + size].copy_(tensor)
            row += size
        if parameter.is_meta:
            for block in weights.blocks:
                block.pack(parameter, whole, room)
    return weights


def write_weights(path: Path, config: DecoderConfig, weights: DecoderWeights, *, dtype: torch.dtype) -> None:
    """Write one safetensors file under Hugging Face's names."""
    tensors: dict[str, Tensor] = {}
    for parameter, pieces in _pieces(config, weights):
        row, whole = 0, rounded(parameter, dtype)
        for name, size in pieces:
            tensors[name] = whole[row : row + size].to("cpu", copy=True).contiguous()
            row += size
    save_file(tensors, path, metadata={"format": "pt"})


def _find_all(folder: Path) -> dict[str, Path]:
    """Tensor name -> file that holds it."""
    by_name: dict[str, Path] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                by_name.update(dict.fromkeys(file.keys(), path))
        except SafetensorError as error:
            raise InvalidRequest(f"{path.name} of {folder.name} is not a complete safetensors file.") from error
    return by_name
