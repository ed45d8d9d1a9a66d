"""Parts of benchmarks/tanks.py: shapes, scenes, their voltages, methods, records and tables."""
