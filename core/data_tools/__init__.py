"""Tools for data sets: build, check, overlap. `run.py data` has the commands."""
