"""Scores over a data set: torchmetrics of validation, and the pure statistics of evaluation.

What is averaged, and over what, is said in one place; imports are from the modules.
"""
