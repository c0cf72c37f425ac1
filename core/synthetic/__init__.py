"""Rendered words: vocabulary, fonts, drawing."""
