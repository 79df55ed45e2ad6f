"""The complete path: any causal language model through transformers and peft. Slower to start and to run than the decoder.

What it does: every method of ``LanguageModel`` with the libraries' own modules; one ``DynamicCache`` per slot. What it does not: remote
code, pickled weights. Imported by ``load.py`` only when a model needs it, for the imports below take seconds.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn
from transformers import DynamicCache

from luthier.core.errors import InvalidRequest
from luthier.models.adapter_form import PLAIN, AdapterForm
from luthier.models.companions import copy_companions
from luthier.models.dora import ZERO_ROWS
from luthier.models.facts import ModelFacts
from luthier.models.language_model import Cache, LanguageModel
from luthier.models.nf4 import NOT_SAVED
from luthier.models.peft_files import MAGNITUDE, AdapterFiles, read_adapter, write_adapter
from luthier.models.probe import Probe, relative_change
from luthier.models.rounding import rounded
from luthier.models.transformers_nf4 import pack_layers
from luthier.models.transformers_parts import (
    Still,
    blocks_made_again,
    cache_argument,
    chosen_logits,
    head_at,
    is_transposed,
    linear_names,
    load_causal_lm,
    lora_targets,
    noise_on,
    short_targets,
)
from luthier.models.transformers_probe import probe_model
from luthier.models.transformers_rounding import round_products

_PREFIX = "base_model.model."
"""What PEFT writes before the base's own names."""
WEIGHTS = "model.safetensors"
_ONE_FILE = "100TB"


@dataclass(slots=True)
class _Slot:
    """One sequence: its tokens so far, and what the model keeps of them (None for a family that keeps nothing)."""

    ids: Tensor
    kept: DynamicCache | None


class SlotDynamicCache(Cache):
    """One growing cache of transformers per slot."""

    def __init__(self, num_slots: int, max_length: int) -> None:
        self.num_slots = num_slots
        self.max_length = max_length
        self.slots: list[_Slot | None] = [None] * num_slots

    def length(self, slot: int) -> int:
        """Tokens in the slot."""
        held = self.slots[slot]
        return 0 if held is None else held.ids.shape[0]


class TransformersModel(LanguageModel):
    """A causal language model of any architecture that transformers has."""

    def __init__(self, folder: Path, facts: ModelFacts, *, device: str, dtype: torch.dtype, packed: bool = False) -> None:
        """Read a checked folder; ``packed``: hold its linear layers in 4 bits.

        Raises:
            InvalidRequest: see ``load_causal_lm`` and ``pack_layers``.
        """
        self.folder = folder
        self.facts = facts
        self._base: Any = load_causal_lm(folder, facts.family, device=device, dtype=dtype)
        self.module: nn.Module = Still(self._base)
        self._cache_argument = cache_argument(self._base)
        self._linear = linear_names(self._base)
        self._targets = lora_targets(self._base)
        self._transposed = is_transposed(self._base)
        self._is_packed = packed
        if packed:
            pack_layers(self._base, self._targets)
        self._own = list(self._base.parameters())
        self._peft: PeftModel | None = None
        self._names: dict[str, str] = {}
        self._counter = 0
        self._active: str | None = None
        self._rounds = False
        # Another thread may save an adapter while one is attached or removed here.
        self._shape_lock = threading.RLock()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._own[0].device

    def logits_at(self, ids_BT: Tensor, lengths_B: Tensor, rows_N: Tensor, columns_N: Tensor) -> Tensor:
        """See ``LanguageModel``. The head is applied to the chosen positions only."""
        if ids_BT.shape[1] > self.facts.max_length:
            raise InvalidRequest(f"A row of {ids_BT.shape[1]} tokens is longer than the model's limit of {self.facts.max_length}.")
        ids_BT, rows_N, columns_N = (t.to(self.device) for t in (ids_BT, rows_N, columns_N))
        mask = (torch.arange(ids_BT.shape[1], device=ids_BT.device) < lengths_B.to(ids_BT.device)[:, None]).long()
        positions_N = rows_N * ids_BT.shape[1] + columns_N
        again = blocks_made_again(self._base) if self.recompute and torch.is_grad_enabled() else nullcontext()
        if self.narrow and not self._rounds:
            round_products(self._base)
            self._rounds = True
        rounds = torch.autocast("cuda", torch.bfloat16, enabled=self.narrow and self.device.type == "cuda")
        with self._switched(), again, rounds, noise_on(self._base, self.noise, lengths_B), head_at(self._base, positions_N):
            logits = self._base(input_ids=ids_BT, attention_mask=mask, **self._keeping(None)).logits
        return chosen_logits(self._base, logits, positions_N)

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
        cache.slots[slot] = _Slot(ids[:0], DynamicCache(config=self._base.config) if self._cache_argument else None)
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
        ends = tuple(f".{name}" for name in form.targets)
        targets = [path for path in self._targets if not ends or f".{path}".endswith(ends)]
        if not targets:
            raise InvalidRequest(f"The base model has no layer to adapt among {', '.join(form.targets)}.")
        self._attach(name, self._lora_config(rank=rank, alpha=alpha, targets=targets, form=form))
        generator = torch.Generator().manual_seed(seed)
        for key, parameter in self._named(name):
            if "lora_A" in key:
                bound = 1.0 / parameter.shape[1] ** 0.5
                parameter.data.copy_(torch.rand(parameter.shape, generator=generator).mul_(2 * bound).sub_(bound))

    def load_adapter(self, name: str, folder: Path) -> None:
        """See ``LanguageModel``."""
        files = read_adapter(folder)
        paths = sorted({key.removeprefix(_PREFIX).rsplit(".lora_", 1)[0] for key in files.tensors})
        try:
            form = AdapterForm(rslora=files.rslora, dora=files.dora)
            self._attach(name, self._lora_config(rank=files.rank, alpha=files.alpha, targets=paths, form=form))
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
        with self._shape_lock:
            state = get_peft_model_state_dict(self._peft, adapter_name=inner)
        tensors = {key: value.detach().to("cpu", torch.float32, copy=True).contiguous() for key, value in state.items()}
        assert self._peft is not None
        config: Any = self._peft.peft_config[inner]
        alpha, kinds = float(config.lora_alpha), {"rslora": config.use_rslora, "dora": config.use_dora}
        files = AdapterFiles(rank=config.r, alpha=alpha, scale=0.0, tensors=tensors, **kinds)
        targets = short_targets(self._linear, sorted({key.removeprefix(_PREFIX).rsplit(".lora_", 1)[0] for key in tensors}))
        write_adapter(folder, files, base_name=base_name, targets=targets, fan_in_fan_out=config.fan_in_fan_out)

    def remove_adapter(self, name: str) -> None:
        """See ``LanguageModel``."""
        inner = self._names.pop(name, None)
        if inner is None or self._peft is None:
            return
        with self._shape_lock:
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
        if self._is_packed:
            raise InvalidRequest(NOT_SAVED)
        dtype = getattr(torch, self.facts.dtype)
        tensors: dict[str, Tensor] = {}
        seen: set[int] = set()
        for key, value in self._base.state_dict(keep_vars=True).items():
            # A tied weight stands under two names; the file holds it once, under the first.
            if "lora_" not in key and id(value) not in seen:
                seen.add(id(value))
                plain = rounded(value, dtype) if value.is_floating_point() else value.detach()
                tensors[key.replace(".base_layer.", ".")] = plain.to("cpu", copy=True).contiguous()
        # Some families are stacked or renamed in memory (experts); transformers writes them back under the names of their files.
        with TemporaryDirectory(dir=folder) as place:
            self._base.save_pretrained(place, state_dict=tensors, max_shard_size=_ONE_FILE)
            (Path(place) / WEIGHTS).rename(folder / WEIGHTS)
        copy_companions(self.folder, folder)

    def probe(
        self, ids_T: Sequence[int], adapter: str | None, positions_N: Sequence[int], *, attention_layer: int | None = None
    ) -> Iterator[Probe | None]:
        """See ``LanguageModel``."""

        @contextmanager
        def switched() -> Iterator[None]:
            with self.use_adapter(adapter), self._switched():
                yield

        def run(ids_BT: Tensor) -> Tensor:
            return self._base(input_ids=ids_BT, attention_mask=torch.ones_like(ids_BT), **self._keeping(None)).logits

        ids_1T = torch.tensor([list(ids_T)], device=self.device)
        positions = torch.tensor(list(positions_N), device=self.device)
        facts = self.facts
        yield from probe_model(
            self._base,
            run,
            switched,
            ids_1T,
            positions,
            num_layers=facts.num_layers,
            vocab_size=facts.vocab_size,
            attention_layer=attention_layer,
        )

    def adapter_changes(self, name: str) -> list[tuple[str, float]]:
        """See ``LanguageModel``."""
        inner = self._names[name]
        assert self._peft is not None
        found: list[tuple[str, float]] = []
        for path, layer in self._peft.named_modules():
            module: Any = layer
            if hasattr(module, "lora_A") and inner in module.lora_A:
                a, b, weight = module.lora_A[inner].weight, module.lora_B[inner].weight, module.get_base_layer().weight
                lengths = module.lora_magnitude_vector[inner].weight if inner in module.lora_magnitude_vector else None
                upright = weight.t() if module.fan_in_fan_out else weight
                found.append((path.removeprefix(_PREFIX), relative_change(a, b, float(module.scaling[inner]), upright, lengths)))
        return found

    def token_vectors(self) -> Tensor | None:
        """See ``LanguageModel``."""
        found = self._base.get_input_embeddings()
        return None if found is None else found.weight

    def _append(self, cache: SlotDynamicCache, slot: int, ids_T: Tensor) -> Tensor:
        held = cache.slots[slot]
        if held is None:
            raise InvalidRequest("The slot is free; prefill it first.")
        held.ids = torch.cat((held.ids, ids_T))
        read = held.ids if self._cache_argument is None else ids_T
        last = torch.tensor([read.shape[0] - 1], device=self.device)
        with self._switched(), head_at(self._base, last):
            logits = self._base(input_ids=read[None], **self._keeping(held.kept)).logits
        return chosen_logits(self._base, logits, last)[0]

    def _keeping(self, kept: DynamicCache | None) -> dict[str, Any]:
        """What the forward is told about its cache; nothing for a family that has none."""
        if self._cache_argument is None:
            return {}
        return {"use_cache": False} if kept is None else {self._cache_argument: kept, "use_cache": True}

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
        with self._shape_lock:
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
        self._measure_rows(name)
        self._keep_trainable()

    def _measure_rows(self, name: str) -> None:
        """DoRA's lengths in float32: peft takes the norms in the base's number format, and 16 bits of a length are too few."""
        inner = self._names[name]
        assert self._peft is not None
        for path, layer in self._peft.named_modules():
            module: Any = layer
            if hasattr(module, MAGNITUDE) and inner in module.lora_magnitude_vector:
                weight = module.get_base_layer().weight.detach()
                length = torch.linalg.vector_norm(weight, dim=0 if module.fan_in_fan_out else 1, dtype=torch.float32)
                if bool((length == 0).any()):
                    self.remove_adapter(name)
                    raise InvalidRequest(ZERO_ROWS.format(path.removeprefix(_PREFIX)))
                module.lora_magnitude_vector[inner].weight.data.copy_(length)

    def _lora_config(self, *, rank: int, alpha: float, targets: list[str], form: AdapterForm) -> LoraConfig:
        return LoraConfig(
            r=rank,
            lora_alpha=alpha,  # type: ignore[arg-type]
            target_modules=targets,
            fan_in_fan_out=self._transposed,
            use_rslora=form.rslora,
            use_dora=form.dora,
            lora_dropout=0.0,
            bias="none",
            task_type="CAUSAL_LM",
        )

    def _named(self, name: str) -> list[tuple[str, nn.Parameter]]:
        part = f".{self._names[name]}."
        assert self._peft is not None
        with self._shape_lock:
            return [(key, p) for key, p in self._peft.named_parameters() if "lora_" in key and part in key]
