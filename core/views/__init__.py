"""Views of a word image: the guidance view, and augmentation for fine-tuning."""
