"""PRMTrainer: labelled solutions become rows and batches, and transformers' trainer learns from them."""
