"""The sections of benchmarks/eit.py."""
