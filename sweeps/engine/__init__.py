"""Optuna sweeps over ordinary runs."""
