"""Reading and writing weights: our own, and those of the released code."""
