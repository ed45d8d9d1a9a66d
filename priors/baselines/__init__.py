"""Autoencoders that others proposed, to compare with: one loss a file."""
