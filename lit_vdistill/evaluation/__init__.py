"""Benchmarks as published, and two students compared; tools for what a run leaves need no torch."""
