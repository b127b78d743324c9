"""A DynamoDB table's encryption, changed after it was made: moto leaves UpdateTable's ``SSESpecification`` unread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moto.dynamodb.responses import DynamoHandler

from include.local.aws.wrapping import wrap

if TYPE_CHECKING:
    from collections.abc import Callable


def install() -> None:
    """Make moto read it; a second call changes nothing."""
    wrap(DynamoHandler, "update_table", _with_encryption)


def _with_encryption(update: Callable[..., Any]) -> Callable[..., Any]:
    def update_table(handler: Any) -> Any:
        wanted = handler.body.get("SSESpecification")
        if wanted is not None:
            table = handler.dynamodb_backend.get_table(handler.body["TableName"])
            # the key that moto gives a table that is made without one
            key = table._get_default_encryption_key(table.account_id, table.region_name)
            table.sse_specification = {"KMSMasterKeyId": key, **wanted}
        return update(handler)

    return update_table
