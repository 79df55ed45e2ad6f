"""What the base model can do, untuned and tuned, measured through the product's own code. See ``pretraining/evaluate.py``."""
