"""The command line of experiments and data."""
