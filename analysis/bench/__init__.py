"""`run.py bench`: speed as ratios inside one run."""
