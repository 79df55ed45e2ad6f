"""Stage 5: a checkpoint becomes a published model that answers by name."""
