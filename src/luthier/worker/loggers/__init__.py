"""A run's numbers to W&B, MLflow, TensorBoard and trackio: each by a process of its own that reads the run's log and may fail alone."""
