"""The fixture ``fuzz``: few examples, always the same ones, in the normal tier; many new ones with --slow."""

import pytest
from hypothesis import HealthCheck, given, settings


@pytest.fixture
def fuzz(request):
    """A function ``(check, strategy, total)`` that tries ``total`` inputs with --slow, else a few."""
    slow = request.config.getoption("--slow")

    def run(check, strategy, total):
        limits = settings(
            max_examples=total if slow else max(2, total // 300),
            derandomize=not slow,
            database=None,
            deadline=None,
            print_blob=slow,
            suppress_health_check=list(HealthCheck),
        )
        limits(given(strategy)(check))()

    return run
