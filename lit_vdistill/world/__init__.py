"""The embedded world: scenes, questions with their truth, a simulated teacher; all from a seed."""
