"""Messages to tokens and back: one renderer for training, evaluation and serving. No torch."""
