"""Records of samples from files, one file a format."""
