"""Stage 4: base beside tuned on held-out examples, through the engine that serves them."""
