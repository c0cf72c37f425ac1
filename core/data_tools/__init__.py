"""Tools for data sets: build, check, overlap."""
