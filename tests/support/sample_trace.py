"""A small prediction trace with every part, for tests of those who pass it on. Its numbers mean nothing."""

from luthier.core.prediction import (
    AdapterChange,
    Alternative,
    Attention,
    Embedding,
    Forced,
    ForcedToken,
    Layers,
    LayerSide,
    Missing,
    Neighbour,
    PathStep,
    Side,
    Trace,
)


def _side(answer: str, probability: float) -> Side:
    top = (
        Alternative(id=7, token=answer, probability=probability, logprob=-0.5),
        Alternative(id=8, token="no", probability=0.1, logprob=-2.3),
    )
    step = PathStep(id=7, token=answer, probability=probability, logprob=-0.5, rank=1, entropy=0.75, top=top)
    end = PathStep(id=5, token="<|end|>", probability=0.9, logprob=-0.1, rank=1, entropy=0.2, end=True)
    return Side(answer=answer, finish_reason="stop", path=(step, end))


def _layers() -> LayerSide:
    return LayerSide(
        top=((3, 5), (7, 5)),
        probability=((0.2, 0.4), (0.6, 0.9)),
        settled=(1, 0),
        appears=(1, 0),
        residual_norm=(1.0, 2.0),
        attention_norm=(0.5, 0.25),
        mlp_norm=(0.5, 0.75),
        attention_share=(0.5, 0.25),
    )


def sample_trace() -> Trace:
    """Two prompt tokens, an answer of one token and its end, two layers."""
    tokens = tuple(
        {"id": i, "text": t, "bytes": [97], "kind": "context", "role": "user", "message": 0} for i, t in ((1, "Good"), (2, " day"))
    )
    forced = (
        ForcedToken(id=7, text="Bonjour", tuned_logprob=-0.5, base_logprob=-4.5, change=4.0),
        ForcedToken(id=5, text="<|end|>", tuned_logprob=-0.1, base_logprob=-0.25, change=0.15),
    )
    return Trace(
        prompt_tokens=tokens,
        tuned=_side("Bonjour", 0.6),
        base_side=_side("English", 0.5),
        forced=Forced(source="tuned", tokens=forced),
        embedding=Embedding(norms=(1.5, 2.0), token=0, neighbours=(Neighbour(id=9, token="Nice", cosine=0.5),)),
        layers=Layers(
            count=2,
            positions=(1, 2),
            sequence=tuple({"id": i, "token": t} for i, t in ((1, "Good"), (2, " day"), (7, "Bonjour"), (5, "<|end|>"))),
            targets=(7, 5),
            tokens={"3": "a", "5": "<|end|>", "7": "Bonjour"},
            tuned=_layers(),
            base=None,
        ),
        adapter=(AdapterChange(layer=0, module="self_attn.q_proj", relative_change=0.01),),
        attention=Attention(
            layer=1, heads=1, keys=4, queries=(1,), mean=((0.25, 0.75),), per_head_queries=(1,), per_head=(((0.25, 0.75),),)
        ),
        missing=(Missing(tier="B", reason="A sample."),),
    )
