"""Pipelines to import: an operator, a prior and a posterior put together for one task."""
