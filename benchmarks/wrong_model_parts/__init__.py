"""Parts of ``benchmarks/wrong_model.py``."""
