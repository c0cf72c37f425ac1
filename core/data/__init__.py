"""Word images in LMDB folders, and batches of them."""
