"""Registers the provider where Airflow has looked for providers before ``plugins/`` was on its path.

Airflow puts that folder on ``sys.path`` itself, but by then its configuration has searched for providers once and for all. So where
PYTHONPATH can't have the folder (MWAA protects it) the connection form would lack this package's type. Tasks look later, and find it.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from airflow.plugins_manager import AirflowPlugin


def register() -> None:
    """Add the provider to those that Airflow has found, unless it is one of them. Early enough: forms are made when first asked for.

    Raises:
        PackageNotFoundError: the dist-info is not beside the package; Airflow shows it among the plugins' import errors.
    """
    from airflow.providers_manager import ProviderInfo, ProvidersManager

    from data_platform.batch_gateway.provider import DISTRIBUTION, get_provider_info

    info = {**get_provider_info(), "documentation-url": None}  # Airflow's search adds this key, and its API needs it
    ProvidersManager().providers.setdefault(DISTRIBUTION, ProviderInfo(version(DISTRIBUTION), info))


class BatchGatewayProviderPlugin(AirflowPlugin):
    """Makes Airflow call `register` when it loads plugins."""

    name = "batch_gateway_provider"

    @classmethod
    def on_load(cls, *args: Any, **kwargs: Any) -> None:
        """As Airflow demands it."""
        register()
