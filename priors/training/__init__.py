"""Training: a recipe in, a prior with its card out."""
