"""What leads where. Made by `python -m reconciler.states` of what is defined there; not to be edited."""

TRANSITIONS = {
    ("pending", "requested"): "converging",
    ("pending", "withdrawn"): "removing",
    ("converging", "converged"): "up",
    ("converging", "stumbled"): "waiting",
    ("converging", "gave_up"): "failed",
    ("converging", "withdrawn"): "removing",
    ("up", "drifted"): "converging",
    ("up", "withdrawn"): "removing",
    ("waiting", "requested"): "converging",
    ("waiting", "retried"): "converging",
    ("waiting", "withdrawn"): "removing",
    ("failed", "requested"): "converging",
    ("failed", "withdrawn"): "removing",
    ("removing", "requested"): "converging",
    ("removing", "vanished"): "removed",
    ("removed", "requested"): "converging",
}
