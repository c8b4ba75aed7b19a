"""What a run costs: beforehand, by the tokens of its spans, and at each point of its search."""
