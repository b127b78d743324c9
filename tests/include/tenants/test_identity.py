from __future__ import annotations

import json
from dataclasses import replace

import pytest

from include.local.aws.cognito import function_arn
from include.tenants import user_pools
from include.tenants.clients import Clients
from include.tenants.exceptions import IdentityIncomplete
from include.tenants.identity import (
    IMPORT_ROLE,
    check_claims,
    coverage,
    finish_identity,
    identities_due,
    identity_obstacles,
    identity_quota,
    port_identity,
    reconcile_groups,
    remove_identity,
    return_identity,
    silo_pool_name,
)
from include.tenants.portability import Portability
from include.tenants.saas import SETTINGS, TENANT_USERS, TENANTS, Tier
from include.tenants.user_import import to_csv
from include.tenants.user_ways import FUNCTION, way, ways
from tests.include.tenants.conftest import REPORTS
from tests.include.tenants.people import PASSWORD, People


@pytest.fixture
def people(portability):
    people = People(portability)
    yield people
    people.remove_pools()


def quiet(_):
    """Say nothing."""


def port(people, tenant_id, target, **request):
    """Plan a migration and move its identity; gives it with the notes."""
    migration = people.plan(tenant_id, target, **request)
    return people.noted(migration, port_identity(people.p, migration, quiet))


def switched(people, migration):
    """Send the tenant's logins to the target."""
    identity = migration.notes["identity"]
    people.route(
        migration.tenant_id,
        Tier(migration.request["target_tier"]),
        (identity["user_pool_id"], identity["app_client_id"]),
    )
    return identity["user_pool_id"], identity["app_client_id"]


def pool(people, pool_id):
    return people.cognito.describe_user_pool(UserPoolId=pool_id)["UserPool"]


# the target's pool


class Overtaken:
    """A Cognito client whose caller finds each custom attribute added by somebody else, just before."""

    def __init__(self, cognito):
        self._cognito = cognito

    def __getattr__(self, name):
        return getattr(self._cognito, name)

    def add_custom_attributes(self, **given):
        self._cognito.add_custom_attributes(**given)
        return self._cognito.add_custom_attributes(**given)


def test_two_migrations_may_add_the_same_attributes_to_a_pool_at_once(people):
    target = people.cognito.create_user_pool(PoolName="of two")["UserPool"]["Id"]
    clients = Clients(lambda service, config: Overtaken(people.cognito))
    user_pools.ensure_attributes(replace(people.p, clients=clients), people.pooled[0], target)
    assert "custom:legacySub" in {each["Name"] for each in pool(people, target)["SchemaAttributes"]}


def test_a_silo_gets_a_pool_and_a_client_with_the_sources_settings(people):
    user_pools.changed_pool(
        people.p,
        people.pooled[0],
        Policies={"PasswordPolicy": {"MinimumLength": 12, "RequireSymbols": True}},
        AdminCreateUserConfig={"AllowAdminCreateUserOnly": True},
    )
    people.cognito.set_user_pool_mfa_config(
        UserPoolId=people.pooled[0], MfaConfiguration="OPTIONAL", SoftwareTokenMfaConfiguration={"Enabled": True}
    )
    people.add_tenant("acme", Tier.BASIC, "ann")

    identity = port(people, "acme", Tier.PLATINUM).notes["identity"]

    made = pool(people, identity["user_pool_id"])
    assert made["Name"] == silo_pool_name("acme") == "acme-ServerlessSaaSUserPool"
    assert made["Policies"] == pool(people, people.pooled[0])["Policies"]
    assert made["AdminCreateUserConfig"]["AllowAdminCreateUserOnly"] is True
    assert made["DeletionProtection"] == "ACTIVE"
    assert made["UserPoolTags"]["application"] == "serverless-saas"
    mfa = people.cognito.get_user_pool_mfa_config(UserPoolId=made["Id"])
    assert (mfa["MfaConfiguration"], mfa["SoftwareTokenMfaConfiguration"]) == ("OPTIONAL", {"Enabled": True})
    attributes = {each["Name"]: each for each in made["SchemaAttributes"]}
    assert attributes["email"]["Required"] is True
    assert attributes["custom:userRole"]["Mutable"] is True
    assert attributes["custom:tenantId"]["Mutable"] is attributes["custom:legacySub"]["Mutable"] is False
    client = user_pools.described_client(people.p, made["Id"], identity["app_client_id"])
    assert {"ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"} <= set(client["ExplicitAuthFlows"])
    assert {"custom:tenantId", "custom:legacySub", "custom:userRole", "email"} <= set(client["ReadAttributes"])
    assert client["WriteAttributes"] == ["email"]
    groups = people.cognito.list_groups(UserPoolId=made["Id"])["Groups"]
    assert [group["GroupName"] for group in groups] == ["acme"]


def test_moving_identity_again_finds_what_was_made(people):
    people.add_tenant("acme", Tier.BASIC, "ann")
    migration = people.plan("acme", Tier.PLATINUM)

    first = port_identity(people.p, migration, quiet)
    later = Portability(people.p.clients, people.p.config, clock=lambda: people.p.clock() + 3600)

    assert port_identity(later, migration, quiet) == first
    assert len([each for each in user_pools.pools(people.p) if each["Name"] == silo_pool_name("acme")]) == 1
    for pool_id, count in ((first["user_pool_id"], 1), (people.pooled[0], 2)):
        clients = people.cognito.list_user_pool_clients(UserPoolId=pool_id, MaxResults=60)["UserPoolClients"]
        assert len(clients) == count


class Killed(BaseException):
    """What ends a task at once."""


class Dying:
    """Clients of which Cognito answers so many changes; the next one happens, but its answer is never seen."""

    def __init__(self, clients, changes):
        self._clients, self._left = clients, changes

    def __getattr__(self, name):
        client = getattr(self._clients, name)
        return Mortal(client, self) if name == "cognito" else client

    def count(self):
        self._left -= 1
        if self._left < 0:
            raise Killed


class Mortal:
    def __init__(self, client, life):
        self._client, self._life = client, life

    def __getattr__(self, name):
        found = getattr(self._client, name)
        if not name.startswith(
            ("create_", "update_", "set_", "delete_", "add_", "admin_add", "admin_create", "admin_d", "start_")
        ):
            return found

        def call(**arguments):
            answer = found(**arguments)
            self._life.count()
            return answer

        return call


def dying(people, changes):
    """What a process works with that is killed after so many changes and one."""
    return Portability(Dying(people.p.clients, changes), people.p.config)


@pytest.mark.parametrize("changes", range(5))
def test_a_process_that_dies_after_any_change_leaves_one_pool_and_one_way(people, changes):
    people.add_tenant("acme", Tier.BASIC, "ann")
    migration = people.plan("acme", Tier.PLATINUM)
    with pytest.raises(Killed):
        port_identity(dying(people, changes), migration, quiet)

    identity = port_identity(people.p, migration, quiet)

    assert [each["Name"] for each in user_pools.pools(people.p)].count(silo_pool_name("acme")) == 1
    assert people.claims(identity["app_client_id"], "ann")["custom:tenantId"] == "acme"


def test_a_pool_of_the_name_that_somebody_else_made_is_left_alone(people):
    people.add_tenant("acme", Tier.BASIC, "ann")
    other = people.cognito.create_user_pool(PoolName=silo_pool_name("acme"))["UserPool"]["Id"]
    migration = people.plan("acme", Tier.PLATINUM)

    with pytest.raises(IdentityIncomplete, match=other):
        port_identity(people.p, migration, quiet)

    assert remove_identity(people.p, migration) == 0
    assert pool(people, other)


def test_a_source_where_cognito_makes_up_the_names_is_refused(people):
    made = people.cognito.create_user_pool(PoolName="by-mail", UsernameAttributes=["email"])["UserPool"]["Id"]
    people.route("acme", Tier.BASIC, (made, "any"))

    with pytest.raises(IdentityIncomplete, match="Cognito makes up the users' names"):
        port_identity(people.p, people.plan("acme", Tier.PLATINUM), quiet)


def test_a_function_that_is_not_deployed_is_named(people):
    people.p.clients.dynamodb.delete_item(TableName=SETTINGS, Key={"settingName": {"S": FUNCTION}})
    people.add_tenant("acme", Tier.BASIC, "ann")

    with pytest.raises(IdentityIncomplete, match=FUNCTION):
        port_identity(people.p, people.plan("acme", Tier.PLATINUM), quiet)

    assert len(user_pools.pools(people.p)) == 1


def test_between_pooled_tiers_nobody_moves(people):
    people.add_tenant("acme", Tier.BASIC, "ann")

    migration = port(people, "acme", Tier.PREMIUM)

    assert migration.notes["identity"]["user_pool_id"] == people.pooled[0]
    assert coverage(people.p, migration).to_json()["missing"] == 0
    assert finish_identity(people.p, migration, quiet).imported == 0
    assert remove_identity(people.p, migration) == 0
    assert people.names(people.pooled[0]) == ["ann"]
    assert not ways(people.p, people.pooled[0])


# the shared pool as the target


def test_a_silo_tenants_users_move_to_the_shared_pool(people):
    source = people.add_tenant("acme", Tier.PLATINUM, "ann")
    people.add_tenant("other", Tier.BASIC, "eve")

    migration = port(people, "acme", Tier.STANDARD)

    identity = migration.notes["identity"]
    assert (identity["user_pool_id"], identity["app_client_id"]) == people.pooled
    claims = people.claims(people.pooled[1], "ann")
    assert claims["custom:tenantId"] == "acme"
    assert claims["custom:legacySub"] == people.attributes(source[0], "ann")["sub"]
    assert reconcile_groups(people.p, migration) == 1
    assert people.claims(people.pooled[1], "ann")["cognito:groups"] == ["acme"]


def test_the_shared_pools_other_settings_stay(people):
    people.cognito.update_user_pool(
        UserPoolId=people.pooled[0],
        AutoVerifiedAttributes=["email"],
        Policies={"PasswordPolicy": {"MinimumLength": 12}},
        LambdaConfig={"PreTokenGeneration": function_arn("claims")},
    )
    before, client = pool(people, people.pooled[0]), user_pools.described_client(people.p, *people.pooled)
    people.add_tenant("acme", Tier.PLATINUM, "ann")

    migration = port(people, "acme", Tier.STANDARD)
    during = pool(people, people.pooled[0])
    switched(people, migration)
    finish_identity(people.p, migration, quiet)

    assert during["LambdaConfig"].keys() == {"PreTokenGeneration", "UserMigration"}
    after = pool(people, people.pooled[0])
    # Cognito shows an old setting that it takes no more beside the one that has replaced it
    del before["AdminCreateUserConfig"]["UnusedAccountValidityDays"]
    changes = {"SchemaAttributes", "LastModifiedDate", "EstimatedNumberOfUsers"}
    assert {name: after.get(name) for name in before.keys() - changes} == {
        name: before[name] for name in before.keys() - changes
    }
    found = user_pools.described_client(people.p, *people.pooled)
    assert set(found.pop("ReadAttributes")) == {*client.pop("ReadAttributes"), "custom:legacySub"}
    assert found == client


def test_a_name_that_another_tenant_has_is_found_before_anything_is_opened(people):
    people.add_tenant("acme", Tier.PLATINUM, "ann", "bob")
    people.add_tenant("other", Tier.BASIC, "bob")

    with pytest.raises(IdentityIncomplete, match="the user name bob is taken in"):
        port_identity(people.p, people.plan("acme", Tier.STANDARD), quiet)

    assert not ways(people.p, people.pooled[0])
    assert not pool(people, people.pooled[0]).get("LambdaConfig")


def test_a_name_of_a_tenant_on_its_way_to_the_same_pool_is_found(people):
    people.add_tenant("one", Tier.PLATINUM, "ann")
    people.add_tenant("two", Tier.PLATINUM, "ann")
    port(people, "one", Tier.STANDARD)

    with pytest.raises(IdentityIncomplete, match="ann is also one of tenant one"):
        port_identity(people.p, people.plan("two", Tier.STANDARD), quiet)


def test_a_shared_client_by_which_users_could_write_their_claim_is_refused(people):
    people.add_tenant("acme", Tier.PLATINUM, "ann")
    user_pools.changed_client(people.p, *people.pooled, WriteAttributes=["email", "custom:tenantId"])

    with pytest.raises(IdentityIncomplete, match="users could write custom:tenantId"):
        port_identity(people.p, people.plan("acme", Tier.STANDARD), quiet)


def test_a_shared_client_without_password_logins_is_refused(people):
    people.add_tenant("acme", Tier.PLATINUM, "ann")
    user_pools.changed_client(
        people.p, *people.pooled, ExplicitAuthFlows=["ALLOW_USER_SRP_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"]
    )

    with pytest.raises(IdentityIncomplete, match="lacks ALLOW_USER_PASSWORD_AUTH"):
        port_identity(people.p, people.plan("acme", Tier.STANDARD), quiet)


def test_the_id_of_the_first_pool_is_kept_through_several_moves(people):
    people.add_tenant("acme", Tier.BASIC, "ann")
    first = people.attributes(people.pooled[0], "ann")["sub"]
    there = port(people, "acme", Tier.PLATINUM)
    _, client_id = switched(people, there)
    people.log_in(client_id, "ann")
    finish_identity(people.p, there, quiet)
    remove_identity(people.p, there)
    assert people.names(people.pooled[0]) == []

    port_identity(people.p, on_its_way_back(there), quiet)

    claims = people.claims(people.pooled[1], "ann")
    assert claims["custom:legacySub"] == first
    assert claims["sub"] != first


def on_its_way_back(there):
    """The next migration of the tenant."""
    identity = there.notes["identity"]
    source = {
        "tier": Tier.PLATINUM.value,
        "user_pool_id": identity["user_pool_id"],
        "app_client_id": identity["app_client_id"],
    }
    request = {**there.request, "target_tier": Tier.BASIC.value}
    return replace(there, migration_id="back", request=request, notes={"source": source})


def test_what_keeps_users_from_moving_is_told_without_changing_anything(people):
    people.add_tenant("acme", Tier.PLATINUM, "ann", "bob")
    people.add_tenant("other", Tier.BASIC, "bob")
    for name in (FUNCTION, IMPORT_ROLE):
        people.p.clients.dynamodb.delete_item(TableName=SETTINGS, Key={"settingName": {"S": name}})
    people.p.clients.dynamodb.delete_item(
        TableName=TENANT_USERS, Key={"tenantId": {"S": "acme"}, "userName": {"S": "ann"}}
    )
    user_pools.changed_client(people.p, *people.pooled, ExplicitAuthFlows=["ALLOW_REFRESH_TOKEN_AUTH"])
    before = pool(people, people.pooled[0])

    faults = "\n".join(identity_obstacles(people.p, people.plan("acme", Tier.STANDARD)))

    for expected in (
        FUNCTION,
        IMPORT_ROLE,
        "user name bob is taken",
        "user ann is not in",
        "lacks ALLOW_USER_PASSWORD",
    ):
        assert expected in faults
    assert pool(people, people.pooled[0]) == before
    assert not ways(people.p, people.pooled[0])


# who can write what


def test_a_user_cannot_become_another_tenants(people):
    people.add_tenant("acme", Tier.BASIC, "ann")
    migration = port(people, "acme", Tier.PLATINUM)
    pool_id, client_id = switched(people, migration)
    token = people.log_in(client_id, "ann")["AccessToken"]

    for name in ("custom:tenantId", "custom:legacySub"):
        with pytest.raises(people.cognito.exceptions.NotAuthorizedException):
            people.cognito.update_user_attributes(AccessToken=token, UserAttributes=[{"Name": name, "Value": "acme-2"}])
        with pytest.raises(people.cognito.exceptions.InvalidParameterException):
            people.cognito.admin_update_user_attributes(
                UserPoolId=pool_id, Username="ann", UserAttributes=[{"Name": name, "Value": "acme-2"}]
            )

    assert people.claims(client_id, "ann")["custom:tenantId"] == "acme"
    assert check_claims(people.p, migration) == []


def test_nobody_can_log_in_by_the_client_that_tries_passwords(people):
    people.add_tenant("acme", Tier.BASIC, "ann")
    port(people, "acme", Tier.PLATINUM)
    client_id = user_pools.client_named(people.p, people.pooled[0], "tenant-migration-acme")

    with pytest.raises(people.cognito.exceptions.InvalidParameterException, match="not enabled"):
        people.log_in(client_id, "ann")


def test_faults_of_the_target_are_named(people):
    people.add_tenant("acme", Tier.BASIC, "ann", "bob")
    migration = port(people, "acme", Tier.PLATINUM)
    pool_id, client_id = switched(people, migration)
    people.log_in(client_id, "ann")
    people.cognito.admin_create_user(
        UserPoolId=pool_id,
        Username="bob",
        MessageAction="SUPPRESS",
        UserAttributes=[{"Name": "custom:tenantId", "Value": "acme"}],
    )
    people.cognito.admin_create_user(UserPoolId=pool_id, Username="stray", MessageAction="SUPPRESS")
    people.cognito.admin_add_user_to_group(UserPoolId=pool_id, Username="stray", GroupName="acme")
    people.cognito.admin_disable_user(UserPoolId=people.pooled[0], Username="ann")
    user_pools.changed_client(
        people.p, pool_id, client_id, WriteAttributes=["custom:tenantId"], ReadAttributes=["email"]
    )

    faults = "\n".join(check_claims(people.p, migration))

    for expected in (
        "could write custom:tenantId",
        "does not show custom:legacySub",
        "user stray is in the tenant's group",
        "user bob: expected custom:legacySub",
        "user ann: expected to be disabled",
    ):
        assert expected in faults


# the deadline


def test_coverage_counts_who_is_where(people):
    people.add_tenant("acme", Tier.BASIC, "ann", "bob", "cat")
    people.add_tenant("other", Tier.BASIC, "eve")
    migration = port(people, "acme", Tier.PLATINUM)
    pool_id, client_id = switched(people, migration)
    people.log_in(client_id, "ann")
    people.cognito.admin_disable_user(UserPoolId=people.pooled[0], Username="cat")
    people.add_user("acme", pool_id, "dan")

    found = coverage(people.p, migration)

    assert found.to_json() == {
        "users": 3,
        "migrated": 1,
        "imported": 0,
        "missing": 2,
        "new": 1,
        "disabled": 1,
        "share": pytest.approx(1 / 3),
    }
    assert user_pools.members(people.p, pool_id, "acme") == {"ann", "dan"}


def test_at_the_deadline_the_rest_is_imported_and_the_way_closed(people):
    people.add_tenant("acme", Tier.BASIC, "ann", "bob", "cat")
    people.add_user("acme", people.pooled[0], "odd", name='Says "hi", twice\nor so')
    people.add_user("acme", people.pooled[0], "mute", email_verified="false")
    people.add_user("acme", people.pooled[0], "comma", name="Doe, Jo")
    people.cognito.admin_disable_user(UserPoolId=people.pooled[0], Username="cat")
    migration = port(people, "acme", Tier.PLATINUM)
    pool_id, client_id = switched(people, migration)
    people.log_in(client_id, "ann")

    done = finish_identity(people.p, migration, quiet)

    assert (done.imported, done.created, done.to_notify) == (3, 2, 4)
    found = done.to_json()["coverage"]
    assert (found["users"], found["migrated"], found["imported"], found["missing"]) == (6, 1, 5, 0)
    assert people.names(pool_id) == ["ann", "bob", "cat", "comma", "mute", "odd"]
    for name in people.names(pool_id):
        before = people.attributes(people.pooled[0], name)
        after = people.attributes(pool_id, name)
        assert {**after, "sub": ""} == {**before, "sub": "", "custom:legacySub": before["sub"]}
    assert people.cognito.admin_get_user(UserPoolId=pool_id, Username="cat")["Enabled"] is False
    assert user_pools.members(people.p, pool_id, "acme") == set(people.names(pool_id))
    assert people.claims(client_id, "ann")["custom:tenantId"] == "acme"
    with pytest.raises(people.cognito.exceptions.PasswordResetRequiredException):
        people.log_in(client_id, "bob")
    body = people.p.clients.s3.get_object(Bucket=REPORTS, Key=done.notify_key)["Body"].read()
    assert json.loads(body)["users"] == [
        {"user": "bob", "by": "email"},
        {"user": "comma", "by": "email"},
        {"user": "mute", "by": None},
        {"user": "odd", "by": "email"},
    ]
    assert PASSWORD not in body.decode()
    assert not pool(people, pool_id).get("LambdaConfig")
    assert way(people.p, pool_id, "acme") is None
    assert user_pools.client_named(people.p, people.pooled[0], "tenant-migration-acme") is None


def test_finishing_again_changes_nothing(people):
    people.add_tenant("acme", Tier.BASIC, "ann", "bob")
    migration = port(people, "acme", Tier.PLATINUM)
    pool_id, _ = switched(people, migration)
    finish_identity(people.p, migration, quiet)
    before = {name: people.attributes(pool_id, name) for name in people.names(pool_id)}

    again = finish_identity(people.p, migration, quiet)

    assert (again.imported, again.created) == (0, 0)
    assert {name: people.attributes(pool_id, name) for name in people.names(pool_id)} == before


@pytest.mark.parametrize("changes", range(10))
def test_a_process_that_dies_after_any_change_of_the_import_loses_nobody(people, changes):
    people.add_tenant("acme", Tier.BASIC, "ann", "bob", "cat")
    people.add_user("acme", people.pooled[0], "mute", email_verified="false")
    people.cognito.admin_disable_user(UserPoolId=people.pooled[0], Username="cat")
    migration = port(people, "acme", Tier.PLATINUM)
    pool_id, client_id = switched(people, migration)
    people.log_in(client_id, "ann")
    kept = people.attributes(pool_id, "ann")["sub"]
    with pytest.raises(Killed):
        finish_identity(dying(people, changes), migration, quiet)

    finish_identity(people.p, migration, quiet)

    assert people.names(pool_id) == ["ann", "bob", "cat", "mute"]
    assert people.attributes(pool_id, "ann")["sub"] == kept
    assert check_claims(people.p, migration) == []
    assert not pool(people, pool_id).get("LambdaConfig")


def test_it_does_not_finish_before_the_switch(people):
    people.add_tenant("acme", Tier.BASIC, "ann")
    migration = port(people, "acme", Tier.PLATINUM)

    with pytest.raises(IdentityIncomplete, match="finish after the switch"):
        finish_identity(people.p, migration, quiet)

    assert people.names(migration.notes["identity"]["user_pool_id"]) == []


def test_those_are_due_whose_deadline_has_passed_after_the_switch(people):
    for tenant_id, days in (("early", 1), ("late", 90), ("unswitched", 1)):
        people.add_tenant(tenant_id, Tier.PLATINUM, f"user-{tenant_id}")
        migration = port(people, tenant_id, Tier.STANDARD, identity_days=days)
        if tenant_id != "unswitched":
            switched(people, migration)
    tomorrow = Portability(people.p.clients, people.p.config, clock=lambda: people.p.clock() + 25 * 3600)

    assert identities_due(people.p) == []
    assert identities_due(people.p, "late") == ["move-late"]
    assert identities_due(people.p, "unswitched") == []
    people.p.clients.dynamodb.delete_item(TableName=TENANTS, Key={"tenantId": {"S": "unswitched"}})
    assert identities_due(tomorrow) == ["move-early"]
    finish_identity(tomorrow, people.p.store.load("move-early"), quiet)
    assert identities_due(tomorrow) == []
    noted = people.p.store.load("move-early").notes
    assert noted["identity_coverage"]["missing"] == 0
    assert noted["identity_finish"]["imported"] == 1


def test_the_last_tenant_on_its_way_takes_the_trigger_off(people):
    people.add_tenant("one", Tier.PLATINUM, "ann")
    people.add_tenant("two", Tier.PLATINUM, "bob")
    one, two = port(people, "one", Tier.STANDARD), port(people, "two", Tier.STANDARD)
    for migration in (one, two):
        switched(people, migration)

    finish_identity(people.p, one, quiet)

    assert pool(people, people.pooled[0])["LambdaConfig"]
    assert people.claims(people.pooled[1], "bob")["custom:tenantId"] == "two"
    finish_identity(people.p, two, quiet)
    assert not pool(people, people.pooled[0]).get("LambdaConfig")


def test_a_trigger_that_one_who_died_has_taken_off_is_put_back_for_the_next(people):
    """Killed between taking it off and looking at the rows again, while another tenant's migration opened its way."""
    people.add_tenant("one", Tier.PLATINUM, "ann")
    people.add_tenant("two", Tier.PLATINUM, "bob")
    one, two = port(people, "one", Tier.STANDARD), port(people, "two", Tier.STANDARD)
    for migration in (one, two):
        switched(people, migration)
    user_pools.changed_pool(people.p, people.pooled[0], LambdaConfig={})

    finish_identity(people.p, one, quiet)

    assert pool(people, people.pooled[0])["LambdaConfig"]
    assert people.claims(people.pooled[1], "bob")["custom:tenantId"] == "two"


def test_a_file_for_cognito_has_a_backslash_before_a_comma():
    header = ["name", "email", "cognito:mfa_enabled", "cognito:username"]

    assert to_csv(header, {"jo": {"name": "Doe, Jo", "email": "jo@example.org", "sub": "1"}}) == (
        "name,email,cognito:mfa_enabled,cognito:username\nDoe\\, Jo,jo@example.org,false,jo"
    )


# afterwards


def test_an_abort_removes_what_was_made_and_nothing_else(people):
    people.add_tenant("acme", Tier.BASIC, "ann")
    people.add_tenant("other", Tier.BASIC, "eve")
    migration = port(people, "acme", Tier.PLATINUM)
    people.log_in(migration.notes["identity"]["app_client_id"], "ann")

    assert remove_identity(people.p, migration) == 1
    assert remove_identity(people.p, migration) == 0

    assert [each["Id"] for each in user_pools.pools(people.p)] == [people.pooled[0]]
    assert people.names(people.pooled[0]) == ["ann", "eve"]
    assert people.claims(people.pooled[1], "ann")["cognito:groups"] == ["acme"]
    assert user_pools.client_named(people.p, people.pooled[0], "tenant-migration-acme") is None
    assert not ways(people.p, migration.notes["identity"]["user_pool_id"])


def test_an_abort_before_anything_was_noted_finds_the_pool(people):
    people.add_tenant("acme", Tier.BASIC, "ann")
    migration = people.plan("acme", Tier.PLATINUM)
    port_identity(people.p, migration, quiet)

    remove_identity(people.p, migration)

    assert [each["Id"] for each in user_pools.pools(people.p)] == [people.pooled[0]]


def test_an_abort_towards_the_shared_pool_removes_that_tenants_users_only(people):
    source = people.add_tenant("acme", Tier.PLATINUM, "ann", "bob")
    people.add_tenant("acme-2", Tier.BASIC, "eve")
    migration = port(people, "acme", Tier.STANDARD)
    people.log_in(people.pooled[1], "ann")

    assert remove_identity(people.p, migration) == 1

    assert people.names(people.pooled[0]) == ["eve"]
    assert people.names(source[0]) == ["ann", "bob"]
    groups = people.cognito.list_groups(UserPoolId=people.pooled[0])["Groups"]
    assert [group["GroupName"] for group in groups] == ["acme-2"]


def test_the_source_is_removed_only_after_the_deadlines_import(people):
    source = people.add_tenant("acme", Tier.PLATINUM, "ann")
    migration = port(people, "acme", Tier.STANDARD)
    switched(people, migration)

    with pytest.raises(IdentityIncomplete, match="finish_tenant_identity"):
        remove_identity(people.p, migration)
    assert people.names(source[0]) == ["ann"]

    finish_identity(people.p, migration, quiet)
    assert remove_identity(people.p, migration) == 1
    assert [each["Id"] for each in user_pools.pools(people.p)] == [people.pooled[0]]
    assert people.names(people.pooled[0]) == ["ann"]


def test_a_pool_with_another_tenants_user_is_not_removed(people):
    source = people.add_tenant("acme", Tier.PLATINUM, "ann")
    people.cognito.admin_create_user(
        UserPoolId=source[0], Username="eve", UserAttributes=[{"Name": "custom:tenantId", "Value": "acme-2"}]
    )
    migration = port(people, "acme", Tier.STANDARD)
    switched(people, migration)
    finish_identity(people.p, migration, quiet)

    with pytest.raises(IdentityIncomplete, match="1 others"):
        remove_identity(people.p, migration)

    assert people.names(source[0]) == ["ann", "eve"]


def test_after_a_rollback_users_made_since_the_switch_are_in_the_source(people):
    people.add_tenant("acme", Tier.BASIC, "ann")
    migration = port(people, "acme", Tier.PLATINUM)
    pool_id, client_id = switched(people, migration)
    people.log_in(client_id, "ann")
    people.add_user("acme", pool_id, "dan")
    made = people.attributes(pool_id, "dan")["sub"]
    people.route("acme", Tier.BASIC, people.pooled)

    assert return_identity(people.p, migration, quiet) == 1
    assert return_identity(people.p, migration, quiet) == 0
    remove_identity(people.p, migration)

    assert people.names(people.pooled[0]) == ["ann", "dan"]
    assert people.attributes(people.pooled[0], "dan")["custom:legacySub"] == made
    assert people.claims(people.pooled[1], "ann")["custom:tenantId"] == "acme"
    assert user_pools.members(people.p, people.pooled[0], "acme") == {"ann", "dan"}


def test_a_return_before_the_switch_back_that_fails_has_changed_nothing_and_names_what_is_missing(people):
    people.add_tenant("acme", Tier.BASIC, "ann")
    people.add_tenant("other", Tier.BASIC, "eve")
    migration = port(people, "acme", Tier.PLATINUM)
    pool_id, _ = switched(people, migration)
    people.add_user("acme", pool_id, "dan")
    role = {"settingName": {"S": IMPORT_ROLE}}
    row = people.p.clients.dynamodb.get_item(TableName=SETTINGS, Key=role)["Item"]
    people.p.clients.dynamodb.delete_item(TableName=SETTINGS, Key=role)

    with pytest.raises(IdentityIncomplete, match=f"expected the setting {IMPORT_ROLE}"):
        return_identity(people.p, migration, quiet)
    assert people.names(people.pooled[0]) == ["ann", "eve"]

    people.p.clients.dynamodb.put_item(TableName=SETTINGS, Item=row)
    people.add_user("acme", pool_id, "eve")  # of whom the source has another tenant's
    with pytest.raises(IdentityIncomplete, match=r"found 1 missing: eve; is a name there another tenant's"):
        return_identity(people.p, migration, quiet)
    assert people.names(people.pooled[0]) == ["ann", "dan", "eve"]
    assert people.attributes(people.pooled[0], "eve")["custom:tenantId"] == "other"


def test_a_return_waits_no_longer_for_cognito_than_it_is_told(people):
    people.add_tenant("acme", Tier.BASIC, "ann")
    migration = port(people, "acme", Tier.PLATINUM)
    pool_id, _ = switched(people, migration)
    people.add_user("acme", pool_id, "dan")
    at = [1e9]
    busy = people.cognito.exceptions.PreconditionNotMetException(
        {"Error": {"Code": "PreconditionNotMetException", "Message": "another job of the account is running"}},
        "StartUserImportJob",
    )
    clients = Clients(lambda service, config: Refusing(people.p.clients.make(service, config), busy))
    hurried = replace(
        people.p, clients=clients, clock=lambda: at[0], sleep=lambda seconds: at.__setitem__(0, at[0] + seconds)
    )

    with pytest.raises(IdentityIncomplete, match=r"within 120 s, found .* another job"):
        return_identity(hurried, migration, quiet)

    assert 120 <= at[0] - 1e9 < 125
    assert return_identity(people.p, migration, quiet) == 1


class Refusing:
    """A client that starts no import."""

    def __init__(self, client, error):
        self._client, self._error = client, error

    def __getattr__(self, name):
        return getattr(self._client, name)

    def start_user_import_job(self, **given):
        raise self._error


def test_a_return_after_the_targets_pool_is_gone_has_nothing_to_do(people):
    people.add_tenant("acme", Tier.BASIC, "ann")
    migration = port(people, "acme", Tier.PLATINUM)
    switched(people, migration)
    people.route("acme", Tier.BASIC, people.pooled)
    remove_identity(people.p, migration)

    assert return_identity(people.p, migration, quiet) == 0


def among_the_pooled(people):
    """A silo's tenant whose row names the pool that all pooled tenants share."""
    people.add_tenant("acme", Tier.PLATINUM)
    people.route("acme", Tier.PLATINUM, people.pooled)
    for name in ("ann", "bob"):
        people.add_user("acme", people.pooled[0], name)
    return people.plan("acme", Tier.BASIC)


def test_a_silo_tenant_whose_users_are_in_the_pooled_pool_must_not_begin(people):
    people.cognito.create_group(UserPoolId=people.pooled[0], GroupName="acme")
    migration = among_the_pooled(people)
    [obstacle] = identity_obstacles(people.p, migration)
    assert f"in the pooled tiers' {people.pooled[0]} already, although the tenant is a silo's" in obstacle
    with pytest.raises(IdentityIncomplete, match="found 1 obstacles"):
        port_identity(people.p, migration, quiet)


@pytest.mark.parametrize("tier", [Tier.PLATINUM, Tier.BASIC])
def test_users_whom_the_tenant_is_served_with_are_never_removed(people, tier):
    """Of a migration that has begun all the same, aborted or complete."""
    people.cognito.create_group(UserPoolId=people.pooled[0], GroupName="acme")
    migration = among_the_pooled(people)
    identity = {
        "moves": True,
        "user_pool_id": people.pooled[0],
        "app_client_id": people.pooled[1],
        "source_user_pool_id": people.pooled[0],
    }
    people.route("acme", tier, people.pooled)
    said = []

    assert remove_identity(people.p, people.noted(migration, identity), said.append) == 0

    assert people.names(people.pooled[0]) == ["ann", "bob"]
    assert "which it is routed to: none was removed" in said[-1]


def test_a_tenant_that_is_routed_back_while_its_users_are_removed_keeps_the_rest(people):
    """By whoever changes the tenant's row by hand."""
    people.add_tenant("acme", Tier.PLATINUM, "ann")
    migration = port(people, "acme", Tier.BASIC)
    for number in range(30):
        people.add_user("acme", people.pooled[0], f"user-{number:02}", password="")
    calls = []

    def routed_away():
        calls.append(1)
        if len(calls) == 4:  # close_way, the beginning, the first 25, the rest
            people.route("acme", Tier.BASIC, people.pooled)

    with pytest.raises(IdentityIncomplete, match="found them going there; no more was removed"):
        remove_identity(people.p, migration, before=routed_away)
    assert len(people.names(people.pooled[0])) == 5


def test_pools_are_counted_against_the_quota(people):
    people.add_tenant("acme", Tier.PLATINUM)

    assert identity_quota(people.p) == (2, 1000)


def test_users_of_many_pages_are_all_seen(people):
    people.add_tenant("acme", Tier.BASIC)
    for number in range(125):
        people.cognito.admin_create_user(
            UserPoolId=people.pooled[0],
            Username=f"user-{number:03}",
            MessageAction="SUPPRESS",
            UserAttributes=[{"Name": "custom:tenantId", "Value": "acme" if number % 2 else "acme-2"}],
        )

    names = [user.name for user in user_pools.users(people.p, people.pooled[0], "acme")]

    assert names == [f"user-{number:03}" for number in range(1, 125, 2)]
    assert names[-1] == "user-123"


def test_cognito_that_is_busy_is_asked_again(people):
    waits, error = (
        [],
        people.cognito.exceptions.TooManyRequestsException(
            {"Error": {"Code": "TooManyRequestsException"}}, "ListUsers"
        ),
    )
    answers = [error, error, {"Users": []}]

    def list_users():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    p = Portability(people.p.clients, people.p.config, sleep=waits.append)

    assert user_pools.patiently(p, list_users) == {"Users": []}
    assert len(waits) == 2
    assert not answers
