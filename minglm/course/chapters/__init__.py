"""What the chapters of the course draw and check: one module for each."""
