"""Stage 2, data preprocessing: examples become token ids with loss weights, and these become batches."""
