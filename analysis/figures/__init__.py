"""Figures: endpoints, attention, reconstructions, alignment, recognition errors."""
