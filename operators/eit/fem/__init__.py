"""The finite element engine: element matrices, one factorization, all derivatives."""
