"""Neutral frames of sentence pairs: two languages side by side, never an instruction, a question or a chat.

The base shall know both languages and not the task that the demonstration teaches. Called by ``pack.py`` and by the evaluation.
"""

import random

from pretraining.corpus import Pair

EVALUATION_FRAME = "EN: {en}\nFR:"
"""How the untuned base is asked for a translation when it is measured."""

EN_FIRST = (
    "EN: {en}\nFR: {fr}",
    "EN: {en} FR: {fr}",
    "English: {en}\nFrench: {fr}",
    "{en} = {fr}",
    "{en}\n{fr}",
    "{en}\n{fr}",
    "{en} | {fr}",
    "{en}\t{fr}",
    '"{en}" - "{fr}"',
    "en:\n{en}\nfr:\n{fr}",
    "({en})\n({fr})",
)
FR_FIRST = (
    "FR: {fr}\nEN: {en}",
    "FR: {fr} EN: {en}",
    "Français : {fr}\nAnglais : {en}",
    "{fr} = {en}",
    "{fr}\n{en}",
    "{fr} | {en}",
    '"{fr}" - "{en}"',
    "fr:\n{fr}\nen:\n{en}",
)
_EN_FIRST_SHARE = 0.7
_BARE_SHARE = 0.4
"""So many rows lose the final stop of both sides, as people type."""
_STOPS = ".!"


def framed(pair: Pair, draw: random.Random) -> str:
    """One pair in a drawn frame."""
    en, fr = pair.en, pair.fr
    if draw.random() < _BARE_SHARE:
        en, fr = _bare(en), _bare(fr)
    frame = draw.choice(EN_FIRST if draw.random() < _EN_FIRST_SHARE else FR_FIRST)
    return frame.format(en=en, fr=fr)


def _bare(text: str) -> str:
    return text[:-1].rstrip() if len(text) > 1 and text[-1] in _STOPS and text[-2] != "." else text
