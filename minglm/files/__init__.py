"""Files: reading text (text.py), writing atomically (whole.py), and locking folders (lock.py)."""
