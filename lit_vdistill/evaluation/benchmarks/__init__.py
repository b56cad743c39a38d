"""A file a benchmark: how its official files become questions, and what answers to them score."""
