"""A local Aurora with a few rows, and a replicator for it."""

from __future__ import annotations

from contextlib import closing

import pytest

from include.local.aurora.replicator import Replicator
from include.local.aurora.snapshot import TARGET_DATABASE
from include.local.aurora.source import Aurora
from include.local.tickit.generate import generate
from tests.include.local.aurora.aurora_harness import TINY, fill


@pytest.fixture(scope="session")
def tiny():
    return generate(TINY, seed=7)


@pytest.fixture
def aurora(tmp_path, tiny):
    source = Aurora(tmp_path / "aurora")
    fill(source, tiny)
    return source


@pytest.fixture
def replicator(aurora, tmp_path):
    """Connected to its target database; nothing has run yet."""
    with closing(Replicator(aurora, tmp_path / "zero_etl", publish_seconds=0.0)) as made:
        made.connect_database(TARGET_DATABASE)
        yield made
