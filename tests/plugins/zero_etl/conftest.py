from typing import Any

import pytest

from tests.plugins.zero_etl.fake_aws import connection_env, healthy, serve


@pytest.fixture(scope="session", autouse=True)
def service_models_read_once():
    """Every hook makes its own boto3 session, as it should; here they share what botocore reads from its data files."""
    import botocore.loaders
    import botocore.session

    loader = botocore.loaders.create_loader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", lambda search_path: loader)
        yield


@pytest.fixture
def connect_to(monkeypatch):
    """Point the connection under test somewhere, with changes to its extra."""

    def point(url: str, **extra: Any) -> None:
        for name, value in connection_env(url, **extra).items():
            monkeypatch.setenv(name, value)

    return point


@pytest.fixture
def aws(connect_to):
    fake = healthy()
    with serve(fake):
        connect_to(fake.url)
        yield fake
