"""The same few prompts answered by the base and after each epoch, so that one can read how the answers come about.

What it does: takes the first held-out rows (without a validation file the first training rows), asks the model in hand greedily, and
tells the answers as a trace event. What it does not: judge them (stage 4 does, on all held-out rows). Called by ``checkpoints.py``,
within the training process: between steps, and for the last epoch while the model is being deployed.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from luthier.chat.renderer import Renderer
from luthier.core.tokens import TokenizedExample
from luthier.models.language_model import LanguageModel
from luthier.trace.events import PromptsAnswered
from luthier.training.answers import Answers, Questions, answers_to
from luthier.training.tokens import TokenSource

PROMPTS = 5
MAX_TOKENS = 48
SECONDS = 5.0
"""For all answers of one epoch together: longer ones are cut."""
_PROMPT_TOKENS = 1024
_LOOKED_AT = 50
_CHARACTERS = 500


class FixedPrompts:
    """The prompts of one run: the same in every epoch and every attempt."""

    def __init__(self, model: LanguageModel, renderer: Renderer, train: TokenSource, valid: TokenSource | None) -> None:
        self._model, self._renderer = model, renderer
        self._held_out = valid is not None
        source = valid or train
        most = min(_PROMPT_TOKENS, model.facts.max_length - MAX_TOKENS)
        rows: dict[int, TokenizedExample] = {}
        for index in range(min(_LOOKED_AT, len(source.examples))):
            row = source.examples[index]
            # Of the two answers of a preference row one is enough: their prompt is the same.
            if len(rows) < PROMPTS and 0 < _prompt_length(row) <= most:
                rows.setdefault(row.source.line, row)
        self._rows = list(rows.values())

    def answer(self, epoch: int) -> PromptsAnswered | None:
        """Ask the model as it is now; None where no row has a prompt that fits. ``epoch`` 0 is the base."""
        found: list[PromptsAnswered] = []
        questions = self.questions(epoch, found.append)
        if questions is None:
            return None
        questions.tell(answers_to(self._model, questions))
        return found[0]

    def questions(self, epoch: int, tell: Callable[[PromptsAnswered], None]) -> Questions | None:
        """The same for whoever has the model: ``tell`` takes the event."""
        if not self._rows:
            return None

        def told(answers: Answers) -> None:
            each = tuple(self._told(row, ids) for row, ids in zip(self._rows, answers, strict=True))
            tell(PromptsAnswered(epoch=epoch, held_out=self._held_out, answers=each))

        prompts = [row.rendered.ids_T[: _prompt_length(row)].tolist() for row in self._rows]
        return Questions(prompts=prompts, stop_ids=self._renderer.stop_ids, max_tokens=MAX_TOKENS, seconds=SECONDS, tell=told)

    def _told(self, row: TokenizedExample, answer: list[int]) -> dict[str, Any]:
        start = _prompt_length(row)
        trained = np.nonzero(row.rendered.weights_T[start:] == 0)[0]
        end = start + int(trained[0]) if trained.size else len(row.rendered.ids_T)
        return {
            "line": row.source.line,
            "prompt": self._text(row.rendered.ids_T[:start].tolist())[-_CHARACTERS:],
            "expected": self._text(row.rendered.ids_T[start:end].tolist())[:_CHARACTERS],
            "answer": self._text(answer)[:_CHARACTERS],
        }

    def _text(self, ids: list[int]) -> str:
        return self._renderer.tokenizer.decode(ids).strip()


def _prompt_length(row: TokenizedExample) -> int:
    """Tokens before the first trained one."""
    return int(np.nonzero(row.rendered.weights_T)[0][0])
