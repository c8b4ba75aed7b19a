"""What a run came to, and how sure that is. Knows no store."""
