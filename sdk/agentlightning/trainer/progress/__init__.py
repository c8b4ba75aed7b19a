"""How far a run is, while it goes on. Changes nothing of it."""
