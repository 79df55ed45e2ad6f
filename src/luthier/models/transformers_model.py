"""The complete path: any causal language model through transformers and peft. Slower to start and to run than the decoder.

What it does: every method of ``LanguageModel`` with the libraries' own modules; one ``DynamicCache`` per slot. What it does not: remote
code, pickled weights. Imported by ``load.py`` only when a model needs it, for the imports below take seconds.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.pytorch_utils import Conv1D

from luthier.core.errors import InvalidRequest
from luthier.models.adapter_form import PLAIN, AdapterForm
from luthier.models.companions import copy_companions
from luthier.models.facts import ModelFacts
from luthier.models.language_model import Cache, LanguageModel
from luthier.models.peft_files import AdapterFiles, read_adapter, write_adapter


class SlotDynamicCache(Cache):
    """One growing cache of transformers per slot."""

    def __init__(self, num_slots: int, max_length: int) -> None:
        self.num_slots = num_slots
        self.max_length = max_length
        self.slots: list[DynamicCache | None] = [None] * num_slots

    def length(self, slot: int) -> int:
        """Tokens in the slot."""
        kept = self.slots[slot]
        return 0 if kept is None else int(kept.get_seq_length())


class TransformersModel(LanguageModel):
    """A causal language model of any architecture that transformers has."""

    def __init__(self, folder: Path, facts: ModelFacts, *, device: str, dtype: torch.dtype) -> None:
        """Read a checked folder.

        Raises:
            InvalidRequest: transformers has no causal language model for this config.
        """
        self.folder = folder
        self.facts = facts
        try:
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, trust_remote_code=False, use_safetensors=True, local_files_only=True, attn_implementation="eager"
            )
        except (ValueError, KeyError, OSError, AttributeError, RuntimeError) as error:
            raise InvalidRequest(f"{folder.name} (model type {facts.family}) cannot be loaded as a causal language model.") from error
        base: Any = model
        self._base: Any = base.to(device).eval()
        self._base.requires_grad_(False)
        self.module: nn.Module = self._base
        self._own = list(self._base.parameters())
        self._peft: PeftModel | None = None
        self._names: dict[str, str] = {}
        self._counter = 0
        self._active: str | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._own[0].device

    def logits_at(self, ids_BT: Tensor, lengths_B: Tensor, rows_N: Tensor, columns_N: Tensor) -> Tensor:
        """See ``LanguageModel``."""
        if ids_BT.shape[1] > self.facts.max_length:
            raise InvalidRequest(f"A row of {ids_BT.shape[1]} tokens is longer than the model's limit of {self.facts.max_length}.")
        ids_BT, rows_N, columns_N = (t.to(self.device) for t in (ids_BT, rows_N, columns_N))
        mask = (torch.arange(ids_BT.shape[1], device=ids_BT.device) < lengths_B.to(ids_BT.device)[:, None]).long()
        with self._switched():
            logits = self._base(input_ids=ids_BT, attention_mask=mask, use_cache=False).logits
        return logits[rows_N, columns_N].float()

    def new_cache(self, num_slots: int, max_length: int) -> Cache:
        """See ``LanguageModel``."""
        if num_slots < 1 or not 1 <= max_length <= self.facts.max_length:
            raise InvalidRequest(
                f"A cache of {num_slots} slots of {max_length} tokens does not fit; the model's limit is {self.facts.max_length}."
            )
        return SlotDynamicCache(num_slots, max_length)

    @torch.no_grad()
    def prefill(self, cache: Cache, slot: int, ids_T: Sequence[int] | Tensor) -> Tensor:
        """See ``LanguageModel``."""
        assert isinstance(cache, SlotDynamicCache)
        ids = torch.as_tensor(ids_T, dtype=torch.int64, device=self.device)
        if not 1 <= ids.shape[0] <= cache.max_length:
            raise InvalidRequest(f"The prompt has {ids.shape[0]} tokens; between 1 and {cache.max_length} fit.")
        cache.slots[slot] = DynamicCache(config=self._base.config)
        return self._append(cache, slot, ids)

    @torch.no_grad()
    def decode(self, cache: Cache, slots_B: Sequence[int], ids_B: Sequence[int] | Tensor) -> Tensor:
        """See ``LanguageModel``. Slots run one after the other."""
        assert isinstance(cache, SlotDynamicCache)
        if len(set(slots_B)) != len(slots_B):
            raise InvalidRequest("A slot can take one token at a time.")
        if any(cache.length(s) >= cache.max_length for s in slots_B):
            raise InvalidRequest(f"The sequence has reached the limit of {cache.max_length} tokens.")
        ids = torch.as_tensor(ids_B, dtype=torch.int64, device=self.device)
        return torch.stack([self._append(cache, slot, ids[i : i + 1]) for i, slot in enumerate(slots_B)])

    def free(self, cache: Cache, slot: int) -> None:
        """See ``LanguageModel``."""
        assert isinstance(cache, SlotDynamicCache)
        cache.slots[slot] = None

    def add_adapter(self, name: str, *, rank: int, alpha: float, seed: int, form: AdapterForm = PLAIN) -> None:
        """See ``LanguageModel``."""
        if rank < 1 or alpha <= 0:
            raise InvalidRequest("The rank and alpha of an adapter must be positive.")
        targets = list(form.targets) or "all-linear"
        try:
            self._attach(name, self._lora_config(rank=rank, alpha=alpha, targets=targets, rslora=form.rslora))
        except ValueError as error:
            self._names.pop(name, None)
            raise InvalidRequest(f"The base model has no layer to adapt among {', '.join(form.targets)}.") from error
        generator = torch.Generator().manual_seed(seed)
        for key, parameter in self._named(name):
            if "lora_A" in key:
                bound = 1.0 / parameter.shape[1] ** 0.5
                parameter.data.copy_(torch.rand(parameter.shape, generator=generator).mul_(2 * bound).sub_(bound))

    def load_adapter(self, name: str, folder: Path) -> None:
        """See ``LanguageModel``."""
        files = read_adapter(folder)
        paths = sorted({key.removeprefix("base_model.model.").rsplit(".lora_", 1)[0] for key in files.tensors})
        try:
            self._attach(name, self._lora_config(rank=files.rank, alpha=files.alpha, targets=paths, rslora=files.rslora))
        except ValueError as error:
            self._names.pop(name, None)
            raise InvalidRequest("The adapter adapts layers that this base model does not have.") from error
        inner = self._names[name]
        shapes = {key: value.shape for key, value in get_peft_model_state_dict(self._peft, adapter_name=inner).items()}
        if shapes != {key: value.shape for key, value in files.tensors.items()}:
            self.remove_adapter(name)
            raise InvalidRequest("The adapter's weights do not fit this base model.")
        set_peft_model_state_dict(self._peft, files.tensors, adapter_name=inner)

    def save_adapter(self, name: str, folder: Path, *, base_name: str) -> None:
        """See ``LanguageModel``."""
        inner = self._names[name]
        state = get_peft_model_state_dict(self._peft, adapter_name=inner)
        tensors = {key: value.detach().to("cpu", torch.float32, copy=True).contiguous() for key, value in state.items()}
        assert self._peft is not None
        config: Any = self._peft.peft_config[inner]
        files = AdapterFiles(rank=config.r, alpha=float(config.lora_alpha), scale=0.0, rslora=config.use_rslora, tensors=tensors)
        targets = self._target_names({key.rsplit(".lora_", 1)[0].removeprefix("base_model.model.") for key in tensors})
        write_adapter(folder, files, base_name=base_name, targets=targets, fan_in_fan_out=config.fan_in_fan_out)

    def _target_names(self, adapted: set[str]) -> list[str]:
        """The shortest names by which peft finds these modules and no other: ``c_attn``, or ``attn.c_proj`` where the MLP has one too."""
        others = {path.replace(".base_layer", "") for path, module in self._base.named_modules() if isinstance(module, nn.Linear | Conv1D)}
        others -= adapted
        names = set()
        for path in adapted:
            parts = path.split(".")
            names.add(next(s for s in (".".join(parts[-n:]) for n in range(1, len(parts) + 1)) if not any(_ends(o, s) for o in others)))
        return sorted(names)

    def remove_adapter(self, name: str) -> None:
        """See ``LanguageModel``."""
        inner = self._names.pop(name, None)
        if inner is None or self._peft is None:
            return
        if self._names:
            self._peft.delete_adapter(inner)
        else:
            self._base, self._peft = self._peft.unload(), None

    @contextmanager
    def use_adapter(self, name: str | None) -> Iterator[None]:
        """See ``LanguageModel``."""
        before = self._active
        self._active = None if name is None else self._names[name]
        try:
            yield
        finally:
            self._active = before

    def adapter_parameters(self, name: str) -> list[nn.Parameter]:
        """See ``LanguageModel``."""
        return [parameter for _, parameter in self._named(name)]

    def all_parameters(self) -> list[nn.Parameter]:
        """See ``LanguageModel``."""
        return list(self._own)

    def save_full(self, folder: Path) -> None:
        """See ``LanguageModel``."""
        dtype = getattr(torch, self.facts.dtype)
        tensors: dict[str, Tensor] = {}
        seen: set[int] = set()
        for key, value in self._base.state_dict(keep_vars=True).items():
            # A tied weight stands under two names; the file holds it once, under the first.
            if "lora_" not in key and id(value) not in seen:
                seen.add(id(value))
                plain = value.detach().to(dtype) if value.is_floating_point() else value.detach()
                tensors[key.replace(".base_layer.", ".")] = plain.to("cpu", copy=True).contiguous()
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        copy_companions(self.folder, folder)

    def _append(self, cache: SlotDynamicCache, slot: int, ids_T: Tensor) -> Tensor:
        past = cache.slots[slot]
        if past is None:
            raise InvalidRequest("The slot is free; prefill it first.")
        with self._switched():
            out = self._base(input_ids=ids_T[None], past_key_values=past, use_cache=True)
        return out.logits[0, -1].float()

    @contextmanager
    def _switched(self) -> Iterator[None]:
        if self._peft is None:
            yield
        elif self._active is None:
            with self._peft.disable_adapter():
                yield
            self._keep_trainable()
        else:
            if self._peft.active_adapter != self._active:
                self._peft.set_adapter(self._active)
                self._keep_trainable()
            yield

    def _keep_trainable(self) -> None:
        """peft freezes adapters that are not active; ours stay as ``adapter_parameters`` promises."""
        for name in self._names:
            for parameter in self.adapter_parameters(name):
                parameter.requires_grad_(True)

    def _attach(self, name: str, config: LoraConfig) -> None:
        if name in self._names:
            raise InvalidRequest(f"An adapter named {name} is attached already.")
        # peft's names may hold no dots and become module names; the public name may hold anything.
        inner = f"a{self._counter}"
        self._counter += 1
        if self._peft is None:
            peft_model = get_peft_model(self._base, config, adapter_name=inner)
            assert isinstance(peft_model, PeftModel)
            self._peft = peft_model
        else:
            self._peft.add_adapter(inner, config)
        self._peft.eval()
        self._names[name] = inner
        for parameter in self.adapter_parameters(name):
            parameter.data = parameter.data.float()
        self._keep_trainable()

    def _lora_config(self, *, rank: int, alpha: float, targets: str | list[str], rslora: bool = False) -> LoraConfig:
        transposed = any(isinstance(m, Conv1D) for m in self._base.modules())
        return LoraConfig(
            r=rank,
            lora_alpha=alpha,  # type: ignore[arg-type]
            target_modules=targets,
            fan_in_fan_out=transposed,
            use_rslora=rslora,
            lora_dropout=0.0,
            bias="none",
            task_type="CAUSAL_LM",
        )

    def _named(self, name: str) -> list[tuple[str, nn.Parameter]]:
        part = f".{self._names[name]}."
        assert self._peft is not None
        return [(key, p) for key, p in self._peft.named_parameters() if "lora_" in key and part in key]


def _ends(path: str, name: str) -> bool:
    return path == name or path.endswith(f".{name}")
