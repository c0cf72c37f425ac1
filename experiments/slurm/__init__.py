"""Runs of a plan, as jobs of a SLURM cluster."""
