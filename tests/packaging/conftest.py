"""The package for MWAA, built once; its wheels come from this machine's index, or from an earlier build."""

from __future__ import annotations

import os

import pytest

from include.local.mwaa.package import build_package
from include.local.mwaa.wheels import WheelsUnavailable


@pytest.fixture(scope="session")
def package(project_root, tmp_path_factory):
    try:
        return build_package(project_root, tmp_path_factory.mktemp("dist") / "mwaa")
    except WheelsUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the wheels of the package can't be downloaded here: {error}")
