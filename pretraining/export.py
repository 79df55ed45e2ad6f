"""Step 4: the trained weights as a Hugging Face folder: config.json, model.safetensors (bf16), tokenizer.

A run that kept its best weights (``WORK/kept``) exports those, another one its last. Writes beside the target and renames at the end, so
that a folder is whole or not there. Run: ``python -m pretraining.export --work DIR --out DIR``.
"""

import argparse
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from pretraining import tokenizer
from pretraining.errors import PretrainingError, run_script
from pretraining.record import KEPT

MAX_POSITIONS = 512
_NAMES = {
    "input_norm": "input_layernorm",
    "post_norm": "post_attention_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}


def config_of(shape: dict[str, Any]) -> dict[str, Any]:
    """``config.json`` of a network of this shape."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **shape,
        "num_key_value_heads": shape["num_attention_heads"],
        "head_dim": shape["hidden_size"] // shape["num_attention_heads"],
        "max_position_embeddings": MAX_POSITIONS,
        "tie_word_embeddings": True,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": tokenizer.END_OF_TEXT,
        "eos_token_id": tokenizer.END,
        "pad_token_id": tokenizer.PAD,
        "dtype": "bfloat16",
    }


def hugging_face_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The network's weights under transformers' names, in bf16."""
    out = {}
    for name, value in weights.items():
        if name == "embedding":
            renamed = "model.embed_tokens.weight"
        elif name == "norm":
            renamed = "model.norm.weight"
        else:
            _, number, part = name.split(".")
            renamed = f"model.layers.{number}.{_NAMES[part]}.weight"
        out[renamed] = value.detach().cpu().bfloat16().contiguous()
    return out


def load_kept(work: Path) -> dict[str, Any] | None:
    """The weights that a run kept as its best ones (``record.keep_weights``), as ``load_state`` gives them; None where none were kept.

    Raises:
        PretrainingError: a tokenizer that is not the one they were trained with.
    """
    path = work / KEPT / "weights.safetensors"
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        facts = json.loads((file.metadata() or {})["facts"])
        network = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    _check_tokenizer(work, path, facts["tokenizer_sha256"], facts["shape"]["vocab_size"])
    print(f"export: the weights of step {facts['step']}, held out {facts['held_out']}")
    return {"network": network, "shape": facts["shape"]}


def _check_tokenizer(work: Path, path: Path, sha256: str, vocabulary: int) -> None:
    encoder = tokenizer.load(work)
    here = hashlib.sha256((work / "tokenizer.json").read_bytes()).hexdigest()
    if here != sha256 or encoder.get_vocab_size() != vocabulary:
        raise PretrainingError(f"{work / 'tokenizer.json'} does not fit the weights in {path}: they were trained with another tokenizer.")


def load_state(work: Path) -> dict[str, Any]:
    """The resume state of a finished run, checked against the tokenizer beside it.

    Raises:
        PretrainingError: no run, an unfinished one, or a tokenizer that is not the one it was trained with.
    """
    path = work / "state" / "state.pt"
    if not path.is_file():
        raise PretrainingError(f"{path} is missing: run python -m pretraining.train first.")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["step"] != state["num_steps"]:
        raise PretrainingError(
            f"{path} stands at step {state['step']} of {state['num_steps']}: run python -m pretraining.train again, it goes on."
        )
    _check_tokenizer(work, path, state["configuration"]["packed"]["tokenizer_sha256"], state["shape"]["vocab_size"])
    return state


def export(work: Path, out: Path) -> None:
    """Write the folder ``out``, which must not exist.

    Raises:
        PretrainingError: see ``load_state``; or ``out`` is there already.
    """
    if out.exists():
        raise PretrainingError(f"{out} is there already; nothing was overwritten. Give another --out, or delete it.")
    state = load_kept(work) or load_state(work)
    partial = out.with_name(f"{out.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(hugging_face_weights(state["network"]), partial / "model.safetensors", metadata={"format": "pt"})
    (partial / "config.json").write_text(json.dumps(config_of(state["shape"]), indent=1) + "\n", encoding="utf-8")
    (partial / "tokenizer_config.json").write_text(json.dumps(tokenizer.tokenizer_config(), indent=1) + "\n", encoding="utf-8")
    Tokenizer.from_file(str(work / "tokenizer.json")).save(str(partial / "tokenizer.json"))
    partial.rename(out)
    size = sum(path.stat().st_size for path in out.iterdir())
    print(f"export: {out}, {size / 1e6:.1f} MB")


def main() -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    export(arguments.work, arguments.out)


if __name__ == "__main__":
    run_script(main)
