"""Autoencoders that others proposed, to compare with: one loss each, a recipe's ``method``."""
