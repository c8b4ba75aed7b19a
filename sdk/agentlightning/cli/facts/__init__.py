"""What is read of a store and its spans, for whoever shows it: more than its methods hand on. Knows no terminal."""
