"""Services for all other packages: errors, files, seeds, processes, process groups."""
