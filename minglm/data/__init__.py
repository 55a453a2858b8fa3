"""From text to samples: tokenizer, corpus, and the samples of every training step."""
