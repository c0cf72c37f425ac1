"""Tables, statistics, figures and notebooks."""

import core  # noqa: F401  (before PyTorch: sets how idle threads wait)
