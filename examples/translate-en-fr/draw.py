"""Print the phrases that the demo asks: the named ones, then ten drawn with the committed seed from those never trained on."""

from pathlib import Path

from luthier.cli.demo_data import SEED, asked_phrases

if __name__ == "__main__":
    print(f"seed {SEED}")
    for phrase in asked_phrases(Path(__file__).resolve().parent):
        print(f"{phrase.prompt}  ->  {' | '.join(phrase.answers)}")
