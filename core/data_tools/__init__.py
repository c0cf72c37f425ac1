"""Tools for data sets: build, check, overlap. The commands are in `experiments/cli/data.py`."""
