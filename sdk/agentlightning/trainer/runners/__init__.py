"""Where runners run, and who looks after them. Knows no algorithm and nothing of what is trained."""
