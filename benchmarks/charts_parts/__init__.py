"""The paper's charts, and how benchmarks/charts.py trains and measures designs."""
