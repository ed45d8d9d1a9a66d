"""Parts of the benchmark of limited-angle tomography."""
