"""Character sets and evaluation protocols."""
