"""What a trained model is for: fill, write, score, classify, rewrite, embed."""
