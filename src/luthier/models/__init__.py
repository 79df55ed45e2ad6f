"""Weights and layers: one interface to every causal language model. Knows nothing of text."""
