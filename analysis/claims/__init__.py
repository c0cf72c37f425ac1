"""Claims: their values from results, and whether these are within tolerance."""
