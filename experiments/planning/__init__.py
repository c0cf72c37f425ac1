"""Experiment files as a plan of runs, each with an id."""
