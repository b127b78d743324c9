from __future__ import annotations

import ast
import inspect
from concurrent.futures import ThreadPoolExecutor

import pytest

from include.tenants import saas, store, user_migration
from include.tenants.identity import port_identity
from include.tenants.saas import Tier
from include.tenants.user_migration import NotMigrated, Source, migrate
from tests.include.tenants.people import PASSWORD, People


@pytest.fixture
def people(portability):
    people = People(portability)
    yield people
    people.remove_pools()


@pytest.fixture
def moving(people):
    """Tenant acme on its way to a pool of its own, and acme-2 that stays; gives the target's pool and client."""
    people.add_tenant("acme", Tier.BASIC, "ann", "bob")
    people.add_tenant("acme-2", Tier.BASIC, "eve")
    found = port_identity(people.p, people.plan("acme", Tier.PLATINUM), lambda _: None)
    return found["user_pool_id"], found["app_client_id"]


def test_the_same_password_works_after_the_move(people, moving):
    pool_id, client_id = moving
    before = people.attributes(people.pooled[0], "ann")

    claims = people.claims(client_id, "ann")

    assert claims["cognito:username"] == "ann"
    assert claims["custom:tenantId"] == "acme"
    assert claims["custom:legacySub"] == before["sub"]
    assert claims["sub"] != before["sub"]
    assert claims["iss"].endswith(f"/{pool_id}")
    after = people.attributes(pool_id, "ann")
    assert {**after, "sub": ""} == {**before, "sub": "", "custom:legacySub": before["sub"]}
    assert people.claims(client_id, "ann")["sub"] == claims["sub"]
    assert people.names(pool_id) == ["ann"]


def test_a_wrong_password_makes_no_user(people, moving):
    pool_id, client_id = moving

    with pytest.raises(people.cognito.exceptions.NotAuthorizedException, match="Incorrect username or password"):
        people.log_in(client_id, "ann", "Wrong-Horse-1")

    assert people.names(pool_id) == []


def test_a_user_of_another_tenant_does_not_come_in(people, moving):
    pool_id, client_id = moving

    with pytest.raises(people.cognito.exceptions.NotAuthorizedException):
        people.log_in(client_id, "eve")

    assert people.names(pool_id) == []
    assert people.claims(people.pooled[1], "eve")["custom:tenantId"] == "acme-2"


def test_first_logins_at_once_make_one_user(people, moving):
    pool_id, client_id = moving

    with ThreadPoolExecutor(8) as threads:
        claims = list(threads.map(lambda _: people.claims(client_id, "ann"), range(8)))

    assert len({each["sub"] for each in claims}) == 1
    assert people.names(pool_id) == ["ann"]


def test_nobody_comes_in_after_the_deadline(people, moving):
    pool_id, _ = moving
    source = Source("acme", people.pooled[0], verifier(people, "acme"), deadline=1_000)

    with pytest.raises(NotMigrated, match="deadline"):
        migrate(event(pool_id, "ann"), people.cognito, lambda *_: [source], clock=lambda: 1.0)

    answer = migrate(event(pool_id, "ann"), people.cognito, lambda *_: [source], clock=lambda: 0.999)
    assert answer["response"]["finalUserStatus"] == "CONFIRMED"


def test_a_disabled_user_does_not_come_in(people, moving):
    pool_id, client_id = moving
    people.cognito.admin_disable_user(UserPoolId=people.pooled[0], Username="ann")

    with pytest.raises(people.cognito.exceptions.NotAuthorizedException):
        people.log_in(client_id, "ann")

    assert people.names(pool_id) == []


def test_a_user_with_a_second_factor_has_to_prove_the_address(people, moving):
    pool_id, client_id = moving
    people.cognito.admin_set_user_mfa_preference(
        UserPoolId=people.pooled[0], Username="ann", SMSMfaSettings={"Enabled": True, "PreferredMfa": True}
    )

    with pytest.raises(people.cognito.exceptions.PasswordResetRequiredException):
        people.log_in(client_id, "ann")

    reset(people, client_id, "ann", "Another-Horse-2")
    assert people.claims(client_id, "ann", "Another-Horse-2")["custom:tenantId"] == "acme"
    assert people.names(pool_id) == ["ann"]


def test_a_temporary_password_does_not_become_a_permanent_one(people, moving):
    pool_id, client_id = moving
    people.add_user("acme", people.pooled[0], "new", password="")
    people.cognito.admin_set_user_password(
        UserPoolId=people.pooled[0], Username="new", Password=PASSWORD, Permanent=False
    )

    with pytest.raises(people.cognito.exceptions.PasswordResetRequiredException):
        people.log_in(client_id, "new")

    assert people.cognito.admin_get_user(UserPoolId=pool_id, Username="new")["UserStatus"] == "RESET_REQUIRED"


def test_a_user_whom_no_code_reaches_does_not_come_in_without_a_password(people, moving):
    pool_id, client_id = moving
    people.add_user("acme", people.pooled[0], "mute", password="", email_verified="false")
    people.cognito.admin_set_user_password(
        UserPoolId=people.pooled[0], Username="mute", Password=PASSWORD, Permanent=False
    )

    with pytest.raises(people.cognito.exceptions.NotAuthorizedException):
        people.log_in(client_id, "mute")

    assert people.names(pool_id) == []


def test_a_forgotten_password_brings_the_user_over(people, moving):
    pool_id, client_id = moving

    reset(people, client_id, "bob", "Another-Horse-2")

    assert people.claims(client_id, "bob", "Another-Horse-2")["custom:tenantId"] == "acme"
    with pytest.raises(people.cognito.exceptions.NotAuthorizedException):
        people.log_in(client_id, "bob")
    assert people.names(pool_id) == ["bob"]


def test_of_several_tenants_on_the_way_to_a_pool_each_brings_its_own(people):
    silos = {
        tenant: people.add_tenant(tenant, Tier.PLATINUM, name) for tenant, name in (("one", "ann"), ("two", "bob"))
    }
    for tenant in silos:
        port_identity(people.p, people.plan(tenant, Tier.PREMIUM), lambda _: None)

    assert people.claims(people.pooled[1], "ann")["custom:tenantId"] == "one"
    assert people.claims(people.pooled[1], "bob")["custom:tenantId"] == "two"
    assert (
        people.attributes(people.pooled[0], "bob")["custom:legacySub"]
        == people.attributes(silos["two"][0], "bob")["sub"]
    )


def test_a_name_that_two_sources_have_is_nobodys(people):
    silos = [people.add_tenant(tenant, Tier.PLATINUM, "ann") for tenant in ("one", "two")]
    sources = [
        Source(tenant, pool_id, client_id, 2**50)
        for tenant, (pool_id, client_id) in zip(("one", "two"), silos, strict=True)
    ]

    with pytest.raises(NotMigrated, match="found 2"):
        migrate(event(people.pooled[0], "ann"), people.cognito, lambda *_: sources)
    assert migrate(event(people.pooled[0], "ann"), people.cognito, lambda *_: sources[:1])


def test_another_event_is_refused(people, moving):
    with pytest.raises(NotMigrated, match="PostAuthentication_Authentication"):
        migrate({**event(moving[0], "ann"), "triggerSource": "PostAuthentication_Authentication"}, people.cognito, list)


def test_no_error_carries_the_password(people, moving):
    source = Source("acme", people.pooled[0], verifier(people, "acme"), 2**50)
    secret = "Wrong-Secret-Horse-1"
    unusable = event(moving[0], "ann")
    unusable["request"]["password"] = [secret]  # botocore's complaint would show it

    for asked in (event(moving[0], "ann", secret), unusable):
        with pytest.raises(NotMigrated) as caught:
            migrate(asked, people.cognito, lambda *_: [source])
        assert secret not in str(caught.value)
        assert caught.value.__suppress_context__  # Lambda logs what a traceback shows


def test_the_function_stands_alone_and_logs_nothing():
    nodes = list(ast.walk(ast.parse(inspect.getsource(user_migration))))
    imported = [
        name
        for node in nodes
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
    ]

    assert imported
    assert not [name for name in imported if name.startswith(("include", "airflow", "data_platform", "logging"))]
    assert "print" not in {node.id for node in nodes if isinstance(node, ast.Name)}


def test_the_function_and_the_project_mean_the_same():
    assert user_migration.TENANT_CLAIM == saas.TENANT_CLAIM
    assert user_migration._MIGRATIONS == saas.MIGRATIONS
    assert user_migration._TENANT_USERS == saas.TENANT_USERS
    assert (store.PARTITION, store.SORT) == ("migrationId", "row")


def verifier(people, tenant_id):
    clients = people.cognito.list_user_pool_clients(UserPoolId=people.pooled[0], MaxResults=60)["UserPoolClients"]
    return next(each["ClientId"] for each in clients if each["ClientName"] == f"tenant-migration-{tenant_id}")


def event(pool_id, name, password=PASSWORD):
    return {
        "triggerSource": "UserMigration_Authentication",
        "userPoolId": pool_id,
        "userName": name,
        "request": {"password": password},
        "response": {},
    }


def reset(people, client_id, name, password):
    answer = people.cognito.forgot_password(ClientId=client_id, Username=name)
    code = answer["ResponseMetadata"]["HTTPHeaders"]["x-moto-forgot-password-confirmation-code"]
    people.cognito.confirm_forgot_password(ClientId=client_id, Username=name, ConfirmationCode=code, Password=password)
