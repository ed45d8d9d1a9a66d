"""The designs that benchmarks/charts.py compares, and how it trains and measures them."""
