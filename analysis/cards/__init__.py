"""Model cards: what a run made, how, with what result, and what that may be compared with."""
