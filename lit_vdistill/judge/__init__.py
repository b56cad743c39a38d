"""Diagnosis of rollouts: who says in words what went wrong."""
