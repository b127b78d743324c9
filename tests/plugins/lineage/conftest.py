import socket

import pytest


@pytest.fixture
def closed_port():
    """A port on which nothing listens, and nothing will while the test runs: it is bound, but does not listen."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
