"""Synthetic words: vocabulary, fonts, rendering, and the data set made of them."""
