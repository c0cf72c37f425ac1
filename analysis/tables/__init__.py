"""Tables: measurements, intervals, comparisons, verdicts, formats."""
