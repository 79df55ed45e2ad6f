"""Looks for files that break the check, the repair or the import: ``make fuzz``, or ``python -m tests.fuzz.fuzz_data_check``.

What it does: gives atheris (``luthier[fuzz]``) the judge of ``data_file_oracle.py``, the committed corpus as seeds and a dictionary
of what files are made of. New inputs that reach new code go to ``build/fuzz``; one that breaks something is written to the working
directory as ``crash-...``, ``timeout-...`` or ``oom-...``: mend it, and add it to ``tests/fuzz/corpus`` under a name that says what it
is. What it does not: run with the other tests; ``tests/unit/data/test_fuzz_corpus.py`` replays the corpus without atheris.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["luthier"]):
    from tests.fuzz.data_file_oracle import judge

HERE = Path(__file__).resolve().parent
FOUND = HERE.parents[1] / "build" / "fuzz"
SECONDS = 60
LIMITS = ("-timeout=20", "-rss_limit_mb=2048", "-max_len=6000")


def main() -> None:
    """Run for the seconds that are given, or with libFuzzer's own options."""
    FOUND.mkdir(parents=True, exist_ok=True)
    said = sys.argv[1:]
    seconds = [said.pop(0)] if said and said[0].isdigit() else [str(SECONDS)]
    options = [f"-max_total_time={seconds[0]}", *LIMITS, f"-dict={HERE / 'data_file.dict'}", *said]
    atheris.Setup([sys.argv[0], *options, str(FOUND), str(HERE / "corpus")], judge)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
