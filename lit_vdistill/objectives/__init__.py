"""Objectives as pure tensor functions: they take tensors and know no network, text or file."""
