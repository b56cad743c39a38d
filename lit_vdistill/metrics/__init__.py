"""What is averaged, and over what, in one place: torchmetrics, and what they are made of."""
