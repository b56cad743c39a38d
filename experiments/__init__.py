"""Experiments: what was run, by which command, and what came out."""
