"""Optuna sweeps over ordinary runs."""

import core  # noqa: F401  (before PyTorch: sets how idle threads wait)
