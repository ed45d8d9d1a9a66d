"""Parts of benchmarks/tanks.py: simulated tanks, methods of reconstruction, scores."""
