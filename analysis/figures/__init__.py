"""Figures: attention, reconstructions, alignment, recognition errors."""
