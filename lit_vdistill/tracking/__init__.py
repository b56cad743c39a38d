"""What a run has seen, for people."""
