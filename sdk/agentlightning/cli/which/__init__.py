"""Which store, and what of it, a command line means: from what a person types to what the store is asked for."""
