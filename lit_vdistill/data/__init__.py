"""What feeds the loop: from records to batches, in a resumable order."""
