"""`fit`, step by step, and what else a trainer is called for; how it is interrupted, and resumed."""
