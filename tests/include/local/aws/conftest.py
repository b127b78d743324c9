"""An AWS stand-in for the folder, its clients, and tables of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from include.local.aws.trial import trial_aws
from include.local.saas.clients import clients_at
from include.local.saas.tables import make_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def aws_url() -> Iterator[str]:
    """URL of an AWS stand-in."""
    with trial_aws() as url:
        yield url


@pytest.fixture(scope="session")
def clients(aws_url):
    return clients_at(aws_url)


@pytest.fixture
def dynamodb(clients):
    return clients.dynamodb


@pytest.fixture
def make(dynamodb) -> Iterator[Callable[..., str]]:
    """Makes tables with partition key ``pk`` and sort key ``sk``; they are gone afterwards."""
    made = []

    def make(keys=("pk", "sk"), **named) -> str:
        name = f"t-{uuid4().hex[:8]}"
        make_table(dynamodb, name, list(keys), **named)
        made.append(name)
        return name

    yield make
    for name in made:
        dynamodb.delete_table(TableName=name)


@pytest.fixture
def table(make) -> str:
    return make()


@pytest.fixture
def put(dynamodb, table):
    """Puts an item into the table: partition, sort key, other attributes in DynamoDB's JSON."""

    def put(pk, sk, **attributes):
        item = {"pk": {"S": pk}, "sk": {"S": sk}, **attributes}
        dynamodb.put_item(TableName=table, Item=item)
        return item

    return put
