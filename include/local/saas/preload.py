"""Puts the local SaaS into the AWS stand-in of this process, before it serves."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from include.local.aws.in_process import clients_inside
from include.local.saas.logins import LOGINS, write_logins
from include.local.saas.placing import place_directly
from include.local.saas.seed import seed

if TYPE_CHECKING:
    from pathlib import Path


def preload(items_per_tenant: int, api_url: str, home: Path) -> None:
    """Make the SaaS and its tenants.

    Args:
        items_per_tenant: how many.
        api_url: where the application answers, without a path.
        home: the stand-in's folder, for the users' passwords.
    """
    gc.disable()  # what is made here stays: to look through it again and again takes longer than to make it
    made = seed(clients_inside(), items_per_tenant=items_per_tenant, api_url=api_url, place=place_directly)
    gc.freeze()
    gc.enable()
    write_logins(home / LOGINS, made.passwords)
