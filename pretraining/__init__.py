"""How the embedded base model is made: corpus, tokenizer, packing, training, export, evaluation, card. Never imported by ``src``."""
