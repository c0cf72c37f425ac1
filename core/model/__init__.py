"""Networks, masks and targets."""
