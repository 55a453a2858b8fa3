"""Outputs: a file is there completely or not at all (whole.py)."""
