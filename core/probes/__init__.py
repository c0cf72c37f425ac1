"""Probes: heads that are trained on the features of a frozen encoder, and tested on other words."""
