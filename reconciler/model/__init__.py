"""The nouns: values without I/O. Named tuples, because they are made by the ten thousand and defined at every start."""
