"""Weights of runs and of released checkpoints: loading, import, export."""
