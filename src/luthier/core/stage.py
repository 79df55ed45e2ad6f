"""The five stages of the pipeline, in order. Named in events, in the trace and in the code that runs them."""

from enum import StrEnum


class Stage(StrEnum):
    """One of the five stages; the value is what events carry."""

    COLLECTION = "data_collection"
    """Bytes become examples."""
    PREPROCESSING = "data_preprocessing"
    """Examples become token batches."""
    TRAINING = "fine_tuning_training"
    """Token batches become checkpoints."""
    EVALUATION = "evaluation"
    """Base beside tuned on held-out examples."""
    DEPLOYMENT = "deployment"
    """A checkpoint becomes a served model."""
