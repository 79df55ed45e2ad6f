"""Reports secrets and personal data: how many rows have each kind, on which lines, and their first characters.

What it does: runs the finders over every row. A value is never shown whole. What it does not: know patterns
(``secret_patterns.py``, ``personal_data.py``) or replace values (``data/redact.py``). Called by the doctor.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from luthier.core.doctor_report import DoctorFinding, Weight
from luthier.data.detectors.private_span import Finder, PrivateKind, apart
from luthier.data.detectors.seen_row import SeenRow, all_text
from luthier.data.detectors.tally import Tally, have, masked

CODES = {
    PrivateKind.SECRET: "secret",
    PrivateKind.EMAIL: "email_address",
    PrivateKind.PHONE: "phone_number",
    PrivateKind.CARD: "payment_card",
    PrivateKind.IBAN: "iban",
    PrivateKind.IP: "ip_address",
    PrivateKind.NATIONAL_ID: "national_id",
}
_NAMES = {
    PrivateKind.SECRET: ("a key or password", "keys or passwords"),
    PrivateKind.EMAIL: ("an e-mail address", "e-mail addresses"),
    PrivateKind.PHONE: ("a telephone number", "telephone numbers"),
    PrivateKind.CARD: ("the number of a payment card", "numbers of payment cards"),
    PrivateKind.IBAN: ("a bank account (IBAN)", "bank accounts (IBAN)"),
    PrivateKind.IP: ("a public IP address", "public IP addresses"),
    PrivateKind.NATIONAL_ID: ("a national identity number", "national identity numbers"),
}
_SERIOUS = frozenset({PrivateKind.SECRET, PrivateKind.CARD, PrivateKind.IBAN, PrivateKind.NATIONAL_ID})
_WHY_SECRET = "A tuned model can repeat a key word for word to anyone who asks it, and the file itself gives it away."
_WHY_PERSONAL = "A tuned model can repeat personal data to anyone who asks it, and the law may forbid to train on it."


class PrivateValues:
    """Counts rows with private values of some kinds."""

    def __init__(self, finders: Sequence[Finder], kinds: Sequence[PrivateKind]) -> None:
        """Use these finders, which find these kinds."""
        self._finders = finders
        self._tallies = {kind: Tally() for kind in kinds}
        self._names: Counter[str] = Counter()
        self.codes = tuple(CODES[kind] for kind in kinds)

    def see(self, row: SeenRow) -> None:
        """Look at all texts of a row."""
        text = all_text(row)
        found = [span for finder in self._finders for span in finder(text)]
        if not found:
            return
        seen: set[PrivateKind] = set()
        for span in apart(found):
            tally = self._tallies[span.kind]
            if span.kind not in seen:
                seen.add(span.kind)
                tally.add(row.line)
                self._names[span.name] += 1
            if tally.wants_example():
                example = f"{span.name}: {masked(text[span.start : span.end])}"
                if example not in tally.examples:
                    tally.examples.append(example)

    def findings(self) -> Iterator[DoctorFinding]:
        """One finding for each kind that there is."""
        for kind, tally in self._tallies.items():
            if not tally.count:
                continue
            secret = kind is PrivateKind.SECRET
            cure = f"Replace them in a copy with luthier data redact FILE --output COPY --kinds {kind.value}"
            yield tally.finding(
                CODES[kind],
                Weight.SERIOUS if kind in _SERIOUS else Weight.WORTH_A_LOOK,
                finding=f"{have(tally.count, f'has {_NAMES[kind][0]}', f'have {_NAMES[kind][1]}')}.",
                why=_WHY_SECRET if secret else _WHY_PERSONAL,
                cure=f"{cure}, and revoke those that are in use." if secret else f"{cure}, unless they are meant to be learned.",
            )
