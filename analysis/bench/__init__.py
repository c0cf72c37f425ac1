"""`run.py bench`: speed as ratios within one run."""
