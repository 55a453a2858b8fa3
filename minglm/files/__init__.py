"""Files: text in (text.py), outputs out, complete or not at all (whole.py), and whose folder it is (lock.py)."""
