"""Weights and vocabularies of the original GLM."""
