"""Token-level models: one pass per solution without look-ahead, fine-tuned here or published elsewhere."""
