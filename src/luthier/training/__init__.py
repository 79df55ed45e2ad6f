"""Stage 3, training: token examples become tuned weights, with exact resume."""
