"""No root, no I/O beyond tmp_path."""
