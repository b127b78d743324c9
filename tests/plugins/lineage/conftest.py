import socket

import pytest


@pytest.fixture
def closed_port():
    """A port on which nothing listens, and nothing will while the test runs: it is bound, but does not listen."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture(scope="session", autouse=True)
def service_models_read_once():
    """Every client makes its own boto3 session, as it should; here they share what botocore reads from its data files."""
    import botocore.loaders
    import botocore.session

    loader = botocore.loaders.create_loader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", lambda search_path: loader)
        yield


@pytest.fixture(scope="module")
def served():
    from include.local.catalog.trial import trial_catalog

    with trial_catalog() as catalog:
        yield catalog


@pytest.fixture
def catalog(served):
    served.clear()
    return served
