"""The nouns of the house: frozen dataclasses and enums. No I/O, no torch; imports nothing of ours."""
