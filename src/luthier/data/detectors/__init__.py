"""Detectors: what the texts of single rows hold that should not be learned, found row by row in flat memory."""

from luthier.data.detectors.answer_faults import AnswerFaults
from luthier.data.detectors.language_mix import LanguageMix, identifier
from luthier.data.detectors.leftovers import Leftovers
from luthier.data.detectors.personal_data import find_personal, phone_finder
from luthier.data.detectors.private_span import PrivateKind
from luthier.data.detectors.private_values import CODES, PrivateValues
from luthier.data.detectors.secret_patterns import secret_finder
from luthier.data.detectors.seen_row import Detector

_MISSING = "The library {} is missing. Install it with: pip install 'luthier[data]'"


def all_detectors() -> tuple[list[Detector], dict[str, str]]:
    """New detectors for one file, and the codes that are not looked for, with the reason (a library is missing)."""
    skipped: dict[str, str] = {}
    finders = [find_personal]
    kinds = [kind for kind in PrivateKind if kind not in (PrivateKind.SECRET, PrivateKind.PHONE)]
    for kind, finder, library in (
        (PrivateKind.SECRET, secret_finder(), "detect-secrets"),
        (PrivateKind.PHONE, phone_finder(), "phonenumbers"),
    ):
        if finder is None:
            skipped[CODES[kind]] = _MISSING.format(library)
        else:
            finders.append(finder)
            kinds.append(kind)
    detectors: list[Detector] = [PrivateValues(finders, [kind for kind in PrivateKind if kind in kinds]), Leftovers(), AnswerFaults()]
    identify = identifier()
    if identify is None:
        skipped.update(dict.fromkeys(LanguageMix.codes, _MISSING.format("py3langid")))
    else:
        detectors.append(LanguageMix(identify))
    return detectors, skipped
