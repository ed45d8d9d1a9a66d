"""What several benchmarks share: tables, records of results, processes, times."""
