"""No step of a run is without a trained token, whatever the rows, the length limit and the batch size are."""

from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.chat.renderer import Renderer
from luthier.core.conversation import conversation_of
from luthier.core.errors import JobFailure
from luthier.core.examples import Dataset, RowFormat, SftExample, SourceLine
from luthier.preprocessing.stage import prepare
from tests.support.mini import MINI

RENDERER = Renderer.load(MINI)
ROW = st.tuples(st.integers(0, 30), st.integers(1, 30), st.sampled_from([0, 1]))


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=12), max_length=st.integers(8, 60), batch_size=st.integers(1, 4), skip=st.booleans())
def test_a_batch_always_has_a_trained_token(rows: list[tuple[int, int, int]], max_length: int, batch_size: int, skip: bool) -> None:
    examples = tuple(
        SftExample(
            source=SourceLine("file-A", line),
            conversation=conversation_of(
                [{"role": "user", "content": "why " * asked}, {"role": "assistant", "content": "so " * said, "weight": weight}]
            ),
        )
        for line, (asked, said, weight) in enumerate(rows, start=1)
    )
    dataset = Dataset(file_id="file-A", row_format=RowFormat.CHAT, examples=examples, num_lines=len(rows), fingerprint="x")
    trainable = {e.source.line for e in examples if RENDERER.example(e.conversation).weights_T[:max_length].any()}
    try:
        prepared = prepare(dataset, RENDERER, max_length=max_length, role="training", skip_untrained=skip)
    except JobFailure:
        assert len(trainable) < len(rows) if not skip else not trainable
        return
    assert {e.source.line for e in prepared.examples} == trainable
    assert prepared.num_skipped == len(rows) - len(trainable)
    for batch in prepared.epoch_batches(batch_size=batch_size, seed=1, epoch=1):
        assert prepared.batch(batch).weights_BT.any()
        assert all(prepared.examples[index].rendered.num_trained > 0 for index in batch)
