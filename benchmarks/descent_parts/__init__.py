"""Parts of benchmarks/descent.py."""
