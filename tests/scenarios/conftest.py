"""Machines for scenarios."""

from collections.abc import Iterator

import pytest

from tests.scenarios.hosts import Hosts, why_not


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """Two edges and three hub servers, each in a network namespace of its own."""
    if reason := why_not():
        pytest.skip(reason)
    with Hosts() as made:
        yield made
