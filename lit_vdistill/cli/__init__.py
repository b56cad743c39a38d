"""The training commands: what they are given, what they say, and the folders they write to."""
