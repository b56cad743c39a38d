"""Frames with their true times, decoded by a process that can be killed."""
