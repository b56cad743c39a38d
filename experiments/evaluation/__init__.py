"""Evaluations that were made, with the commands that made them."""
