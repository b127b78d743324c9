"""What an account and a region may be called in a path of the lake: one rule for those that write there and those that make the paths."""

from __future__ import annotations

from typing import Final

ACCOUNT: Final = r"[0-9]{12}|external(_[A-Za-z0-9][A-Za-z0-9._-]{0,63})?"
"""An AWS account, or ``external`` with or without a name: https://docs.aws.amazon.com/security-lake/latest/userguide/custom-sources.html"""

REGION: Final = r"[a-z]{2}(-[a-z]{2,12}){1,3}-[0-9]{1,2}"
"""An AWS region: ``eu-central-1``, ``us-gov-west-1``, ``us-iso-east-1``."""
