"""From experiment files to a plan of runs, each with an id."""
