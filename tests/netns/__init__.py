"""The real kernel: every test in fresh network namespaces of its own."""
