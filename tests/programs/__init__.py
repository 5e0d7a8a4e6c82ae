"""Programs that the tests start as engines. Each is run by its path, with nothing but PATH and the mark in its environment."""
