"""Who the stand-in is. Imports nothing, so that whoever configures a client may import it."""

from __future__ import annotations

from typing import Final

ACCOUNT_ID: Final = "123456789012"
REGION: Final = "us-east-1"
DOMAIN_ID: Final = "dzd_local0platform"
PROJECT_ID: Final = "local0platform"
CALLER: Final = f"arn:aws:iam::{ACCOUNT_ID}:user/local"
"""Everybody: signatures are not looked at."""
