"""What a migration is going to do: counted and said before anything is done."""

from __future__ import annotations

import json

import pytest

from include.local.saas.placing import place_by_batches
from include.local.saas.tables import make_data_tables
from include.tenants.exceptions import BadRequest, MigrationConflict, TenantBusy, TenantUnknown
from include.tenants.plan import begin, count_items, make_plan, moves_data, source_tier, target_tier
from include.tenants.request import MigrationRequest
from include.tenants.saas import TENANTS, Tier
from include.tenants.states import State
from tests.include.tenants.histories import put_tenant
from tests.include.tenants.moving import product

WHY = "They pay for it"


@pytest.fixture
def p(portability):
    """Tenants whose ids begin each other, one of them with a silo of its own."""
    for tenant_id, tier in (("acme", "Basic"), ("acme-2", "Standard"), ("globex", "Platinum")):
        put_tenant(portability.clients, tenant_id, tier, api_key=f"secret-of-{tenant_id}")
    make_data_tables(portability.clients.dynamodb, "globex")
    items = [product(f"acme-{shard}", f"{number}") for shard in range(1, 11) for number in range(2)]
    neighbours = [product(shard, "1") for shard in ("acme-2-1", "acme-11", "acme-0", "acme", "x-acme-1")]
    # more than one page of a query
    large = [product("globex-4", f"{number}", note={"S": "x" * 390_000}) for number in range(4)]
    place_by_batches(portability.clients.dynamodb, (("Product-pooled", item) for item in items + neighbours))
    place_by_batches(portability.clients.dynamodb, (("Product-globex", item) for item in large))
    return portability


def plan(p, tenant_id, target, **limits):
    return make_plan(p, MigrationRequest(tenant_id, Tier(target), why=WHY, **limits))


def test_to_a_silo_it_counts_the_tenants_items_and_nobody_elses(p):
    made = plan(p, "acme", "Platinum")
    assert [(table.source, table.target, table.items) for table in made.tables] == [
        ("Product-pooled", "Product-acme", 20),
        ("Order-pooled", "Order-acme", 0),
    ]
    assert made.items == 20
    told = made.to_text()
    for part in (
        "tenant acme: Basic -> Platinum",
        "20 items of Product-pooled to Product-acme",
        "stack stack-acme by the pipeline",
        "user pool acme-ServerlessSaaSUserPool",
        "usage plan of Platinum",
        "tenantTier, apiKey, dedicatedTenancy, userPoolId, appClientId, apiGatewayUrl of tenant acme",
        "the tenant's items in the pooled tables (acme-1, acme-2, …)",
        "about 10 minutes",
    ):
        assert part in told, part


def test_to_the_pool_every_page_is_counted_and_the_stack_goes(p):
    made = plan(p, "globex", "Premium")
    assert [(table.source, table.target, table.items) for table in made.tables] == [
        ("Product-globex", "Product-pooled", 4),
        ("Order-globex", "Order-pooled", 0),
    ]
    # half a unit for each 4 KB that is read
    assert 150 <= made.tables[0].read_units <= 250
    told = made.to_text()
    assert "the tenant's group in the pooled user pool" in told
    assert "stack stack-globex with its tables, and the tenant's user pool" in told
    assert "by the pipeline" not in told


def test_between_pooled_tiers_nothing_moves(p):
    made = plan(p, "acme-2", "Premium")
    assert made.tables == ()
    told = made.to_text()
    assert "nothing: both tiers share the pooled tables" in told
    assert "  - tenantTier, apiKey of tenant acme-2, in one conditional write" in told
    assert told.split("deletes, after a person has agreed:\n")[1].startswith("  - nothing")


def test_the_estimate_grows_with_what_is_copied_and_with_less_capacity(p):
    assert plan(p, "globex", "Basic", read_units=1).seconds > plan(p, "globex", "Basic", read_units=1000).seconds + 200
    assert plan(p, "acme", "Platinum").seconds > plan(p, "acme", "Premium").seconds


@pytest.mark.parametrize(("tenant_id", "target"), [("acme", "Platinum"), ("globex", "Basic"), ("acme-2", "Basic")])
def test_it_can_be_kept_as_json_and_holds_no_secret(p, tenant_id, target):
    made = plan(p, tenant_id, target)
    kept = json.dumps(made.to_json())
    assert json.loads(kept)["items"] == made.items
    assert json.loads(kept)["target_tier"] == target
    assert "secret" not in kept + made.to_text()


def test_a_tenant_that_is_not_active_or_there_already_or_nobody_is_refused(p):
    p.clients.dynamodb.update_item(
        TableName=TENANTS,
        Key={"tenantId": {"S": "acme-2"}},
        UpdateExpression="SET isActive = :no",
        ExpressionAttributeValues={":no": {"BOOL": False}},
    )
    with pytest.raises(BadRequest, match="acme-2 to be active, found isActive = false; activate it first"):
        plan(p, "acme-2", "Platinum")
    with pytest.raises(BadRequest, match="globex to be in another tier than Platinum, found it there"):
        plan(p, "globex", "Platinum")
    with pytest.raises(TenantUnknown, match="expected a tenant 'acme-3'"):
        plan(p, "acme-3", "Platinum")


def test_a_source_that_is_missing_is_named(p):
    put_tenant(p.clients, "initech", "Platinum")
    with pytest.raises(BadRequest, match="expected the table Product-initech of tenant initech, found none"):
        plan(p, "initech", "Basic")
    with pytest.raises(BadRequest, match="expected the table Nothing"):
        count_items(p, "Nothing", "acme")


def test_begun_it_is_written_down_once_with_everything_but_the_key(p):
    request = MigrationRequest("acme", Tier.PLATINUM, why=WHY)
    made = make_plan(p, request)
    begun = begin(p, "m-1", request, made, by="ann")
    assert begin(p, "m-1", request, made, by="ann") == begun
    assert (begun.state, begun.tenant_id, begun.request) == (State.PLANNED, "acme", request.to_mapping())
    assert (source_tier(begun), target_tier(begun), moves_data(begun)) == (Tier.BASIC, Tier.PLATINUM, True)
    assert begun.notes["tables"][0] == {"prefix": "Product", "source": "Product-pooled", "target": "Product-acme"}
    assert begun.notes["plan"] == json.loads(json.dumps(made.to_json()))
    assert (begun.notes["source"]["user_pool_id"], begun.notes["source"]["epoch"]) == ("us-east-1_source", 0)
    assert "secret-of-acme" not in str(begun)
    [event] = p.store.events("m-1")
    assert (event.by, event.why) == ("ann", WHY)


def test_begun_by_another_or_otherwise_it_is_refused(p):
    request = MigrationRequest("acme", Tier.PLATINUM, why=WHY)
    begin(p, "m-1", request, make_plan(p, request), by="ann")
    with pytest.raises(TenantBusy, match="acme to be in no migration, found it in m-1, which is PLANNED"):
        begin(p, "m-2", request, make_plan(p, request), by="ann")
    other = MigrationRequest("acme-2", Tier.PLATINUM, why=WHY)
    with pytest.raises(MigrationConflict, match="expected migration m-1 to be new, found one of tenant acme"):
        begin(p, "m-1", other, make_plan(p, other), by="ann")
    assert p.store.current("acme-2") is None
