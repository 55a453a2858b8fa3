"""GLM and its rivals: the same network trained as GPT, BERT and prefix LM, and baselines."""
