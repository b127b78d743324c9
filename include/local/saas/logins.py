"""The passwords of the tenants' users, in a file that only its owner can read. They are made anew with each stand-in."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from include.local.environment import write_private

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LOGINS: Final = "saas_logins.json"
"""Its name, in the stand-in's folder."""
_USERS: Final = 2
"""Of a tenant, beside its admin."""


@dataclass(frozen=True)
class Login:
    """A user's name and password."""

    user: str
    password: str = field(repr=False)


def user_names(tenant_id: str) -> list[str]:
    """A tenant's users; the first is its admin."""
    return [f"tenant-admin-{tenant_id}", *(f"{tenant_id}-user-{number}" for number in range(1, _USERS + 1))]


def write_logins(path: Path, passwords: Mapping[str, str]) -> None:
    """Keep passwords by user."""
    write_private(path, json.dumps(passwords, indent=2) + "\n")


def login_of(path: Path, tenant_id: str) -> Login:
    """The login of a tenant's admin.

    Raises:
        ValueError: there is none.
    """
    admin, *_ = user_names(tenant_id)
    try:
        passwords = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"expected the logins of the local SaaS in {path}, found none: {error}; start it with make up"
        ) from error
    if admin not in passwords:
        raise ValueError(f"expected the user {admin} in {path}, found {', '.join(sorted(passwords)) or 'nobody'}")
    return Login(admin, passwords[admin])
