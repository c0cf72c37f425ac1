"""What the commands do that need experiments, sweeps or stored results."""
