"""The tiny students that tests go through, one of each family."""

FAMILIES = ("qwen3-vl", "qwen2.5-vl")
