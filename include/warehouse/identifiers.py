"""Names that are pasted into SQL, because SQL binds values only."""

from __future__ import annotations

import re

from include.warehouse.exceptions import IdentifierRefused

MAX_LENGTH = 127
"""Redshift's limit in bytes: https://docs.aws.amazon.com/redshift/latest/dg/r_names.html."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def quoted(*parts: str) -> str:
    """``quoted("finance", "rpt")`` is ``"finance"."rpt"``.

    Raises:
        IdentifierRefused: a part isn't letters, digits and underscores, or is too long for Redshift.
    """
    for part in parts:
        if not _PLAIN.fullmatch(part) or len(part) > MAX_LENGTH:
            raise IdentifierRefused(
                f"expected a name of letters, digits and underscores, at most {MAX_LENGTH} long, found {part!r}; rename it at its source"
            )
    return ".".join(f'"{part}"' for part in parts)
