"""What benchmarks/table_nrae.py compares, and how it trains."""
