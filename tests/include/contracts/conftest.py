"""A root of contracts of the test's own."""

from __future__ import annotations

import pytest

from tests.include.contracts.contracts_harness import Contracts


@pytest.fixture
def contracts(tmp_path):
    return Contracts(tmp_path / "data_products")
