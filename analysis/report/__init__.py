"""The report: all notebooks on one page."""
