"""Stage 1, data collection: bytes become examples, and every fault of the file gets its line number."""
