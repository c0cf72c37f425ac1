"""Views of word images: the guidance view of pre-training and the augmentation of fine-tuning."""
