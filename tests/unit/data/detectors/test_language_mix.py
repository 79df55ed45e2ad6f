"""Languages of prompts and answers, told by the real library, and by a stand-in where numbers matter."""

from luthier.core.doctor_report import Weight
from luthier.data.detectors.language_mix import SAMPLE, LanguageMix, identifier
from tests.support.doctor_rows import asked, found

ENGLISH = [
    "Where is the nearest station, please?",
    "I would like a table for two this evening.",
    "The children are playing in the garden.",
    "What time does the museum open tomorrow?",
    "She has been working here for ten years.",
    "It is raining, so take an umbrella with you.",
]
FRENCH = [
    "Où se trouve la gare la plus proche, s'il vous plaît ?",
    "Je voudrais une table pour deux personnes ce soir.",
    "Les enfants jouent dans le jardin derrière la maison.",
    "À quelle heure ouvre le musée demain matin ?",
    "Elle travaille ici depuis dix ans maintenant.",
    "Il pleut, alors prenez un parapluie avec vous.",
]


IDENTIFY = identifier()


def _detector() -> LanguageMix:
    assert IDENTIFY is not None
    return LanguageMix(IDENTIFY)


def test_languages_are_told_and_the_exception_is_named() -> None:
    rows = [asked(f"Translate: {ENGLISH[n % 6]}", FRENCH[n % 6], n + 1) for n in range(24)]
    rows[16] = asked(f"Translate: {ENGLISH[2]}", ENGLISH[2], 17)
    findings = found(_detector(), rows)
    assert findings["language_mix"].finding == (
        "Prompts: English 100.0% (of 24 rows; 0 could not be told). Answers: French 95.8%, English 4.2% (of 24 rows; 0 could not be told)."
    )
    assert findings["language_mix"].weight is Weight.INFORMATION
    exception = findings["answer_language"]
    assert (exception.count, exception.lines, exception.measured_on) == (1, (17,), None)
    assert exception.examples == ("English: The children are playing in the garden.",)


def test_a_file_of_two_languages_has_no_exceptions() -> None:
    rows = [asked(text, text, line) for line, text in enumerate((ENGLISH + FRENCH) * 3, start=1)]
    findings = found(_detector(), rows)
    assert set(findings) == {"language_mix"}
    assert "French 50.0%, English 50.0%" in findings["language_mix"].finding or "English 50.0%, French 50.0%" in findings["language_mix"].finding


def test_labels_and_code_have_no_language() -> None:
    rows = [asked(ENGLISH[n % 6], ("positive", '{"name": "les enfants jouent dans le jardin"}', "card_arrival")[n % 3], n + 1) for n in range(30)]
    findings = found(_detector(), rows)
    assert set(findings) == {"language_mix"}
    assert findings["language_mix"].finding.endswith("Answers are too short to tell their language.")


def test_nothing_to_tell_is_no_finding() -> None:
    assert found(_detector(), [asked("1 + 1", "2", n) for n in range(1, 30)]) == {}


def test_a_large_file_is_sampled_alike_each_time_and_says_so() -> None:
    def identify(text: str) -> tuple[str, float]:
        return ("fr" if "oui" in text else "en"), 1.0

    def run() -> dict:
        rows = (asked(f"question number {n} " * 3, ("oui " if n % 100 == 0 else "yes ") * 20, n) for n in range(1, 3 * SAMPLE))
        return found(LanguageMix(identify), rows)

    first, second = run(), run()
    assert first == second
    exception = first["answer_language"]
    assert exception.measured_on == SAMPLE
    assert all(line % 100 == 0 for line in exception.lines)
    assert exception.lines == tuple(sorted(exception.lines))
    # One row in a hundred of a sample of 2,000: 20, and by chance seldom fewer than 8 or more than 34.
    assert 8 <= exception.count <= 34
    assert exception.lines[-1] > SAMPLE
