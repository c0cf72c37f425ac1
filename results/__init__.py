"""Records, the results folder, and the numbers that the paper reports."""

import core  # noqa: F401  (before PyTorch: sets how idle threads wait)
