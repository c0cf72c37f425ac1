"""Experiment files, plans, and the commands that run them here or on a cluster."""

import core  # noqa: F401  (before PyTorch: sets how idle threads wait)
