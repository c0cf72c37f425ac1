"""Reports of sweeps: estimates, tables, figures, and the best trial as an experiment."""
