"""What the chapters of the course draw and check: one module for each."""

import os

FAST = os.environ.get("MINGLM_FAST") == "1"  # the quick mode of tutorials/render.py
