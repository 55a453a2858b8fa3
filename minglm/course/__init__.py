"""How do you learn GLM by building it? Puzzles from an empty file to a trained model, and their checker."""
