"""Runs of a plan, on this machine."""
