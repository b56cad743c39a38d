"""What each task is."""
