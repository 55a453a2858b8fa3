"""Text in, samples out: tokenizer, corpus, and which sample is read when."""
