"""What tunctl costs, beside what the same would cost without it. `python -m benchmarks`, as root."""
