"""The application over HTTP: who may ask for what, and where."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
import time
from dataclasses import replace

import jwt
import pytest
import requests

from include.local.saas.api import Application
from include.local.saas.client import HttpApi
from include.local.saas.errors import Fenced, Forbidden, NotFound, Refused, Unclear
from include.local.saas.journal import Told, entries
from include.local.saas.judge import judge_tables
from include.local.saas.load import Load
from include.local.saas.logins import Login, user_names, write_logins
from include.local.saas.seed import SeedTenant, seed
from include.local.saas.tables import make_data_tables
from include.local.saas.tokens import Authorizer
from include.local.saas.web import Web, make_saas_server
from include.tenants.saas import TENANT_CLAIM, Tier
from include.tenants.store import MigrationStore
from tests.include.local.saas.moving_by_hand import close, switch_unfenced, tenant_of


@pytest.fixture(scope="module")
def application(clients) -> Application:
    return Application(clients)


@pytest.fixture(scope="module")
def url(aws, clients, application):
    web = Web([application, Application(clients)], Authorizer(clients, application.routes, aws))
    server = make_saas_server(web)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def made(clients, url):
    """Makes tenants that live behind this server; gives a client of theirs."""
    passwords = {}

    def make(*tenants: tuple[str, Tier]) -> HttpApi:
        wanted = [SeedTenant(name, tier) for name, tier in tenants]
        passwords.update(seed(clients, items_per_tenant=0, api_url=url, tenants=wanted).passwords)
        return HttpApi(
            url, clients, {name: Login(user_names(name)[0], passwords[user_names(name)[0]]) for name, _ in tenants}
        )

    make.passwords = passwords
    return make


def sign_in(clients, tenant_id, password, user=None):
    answer = clients.cognito.initiate_auth(
        ClientId=tenant_of(clients, tenant_id).route.app_client_id,
        AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": user or user_names(tenant_id)[0], "PASSWORD": password},
    )
    return answer["AuthenticationResult"]


def ask(url, path, token, method="GET", **headers):
    return requests.request(
        method, url + path, headers={"Authorization": f"Bearer {token}", **headers}, allow_redirects=False, timeout=30
    )


def test_a_client_writes_reads_lists_and_deletes(made):
    api = made(("web-1", Tier.BASIC))
    body = {
        "name": "Anvil",
        "price": 12,
        "labels": {"a", "b"},
        "picture": b"\x00\xff",
        "details": {"deep": [None, True]},
    }
    key = api.put("web-1", "Product", None, body).key
    item = api.get("web-1", "Product", key).item
    assert {name: item[name] for name in body} == body
    own = api.put("web-1", "Product", "web-1-4:a/b c?d#🎪%20/", {"name": "strange"}).key
    assert api.get("web-1", "Product", own).item["productId"] == "a/b c?d#🎪%20/"
    assert api.update("web-1", "Product", own, {"name": "new"}).epoch == 0
    page = api.list("web-1", "Product", limit=1)
    rest = api.list("web-1", "Product", limit=5, after=page.after)
    assert sorted(each["name"] for each in [*page.items, *rest.items]) == ["Anvil", "new"]
    api.delete("web-1", "Product", own)
    for ask_for in (api.get, api.delete):
        with pytest.raises(NotFound):
            ask_for("web-1", "Product", own)
    with pytest.raises(NotFound):
        api.update("web-1", "Product", own, {"name": "again"})
    with pytest.raises(Refused):
        api.put("web-1", "Product", None, {"colour": "red"})


def test_numbers_keep_all_their_digits(made, url, clients):
    api = made(("web-2", Tier.BASIC))
    token = sign_in(clients, "web-2", made.passwords["tenant-admin-web-2"])["IdToken"]
    digits = "12345678901234567890123456789012345678"
    sent = requests.post(
        f"{url}/pooled/products?key=web-2-1:n",
        data=f'{{"price": {digits}, "sizes": [0.10, {digits}]}}',
        headers={"Authorization": f"Bearer {token}"},
        timeout=30,
    )
    assert sent.status_code == 201
    told = ask(url, "/pooled/products/web-2-1:n", token).text
    assert f'"price": {digits}' in told
    assert api.get("web-2", "Product", "web-2-1:n").item["price"] == int(digits)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("GET", "/nowhere", 404),
        ("GET", "/pooled/users", 404),
        ("GET", "/tenant/init/nobody", 401),
        ("GET", "/pooled/products", 401),
    ],
)
def test_without_a_token_only_what_is_public_is_answered(url, method, path, status):
    answer = requests.request(method, url + path, timeout=30)
    assert answer.status_code == status
    assert answer.json()


def test_a_method_that_a_path_does_not_have_is_refused(url, made, clients):
    made(("web-3", Tier.BASIC))
    token = sign_in(clients, "web-3", made.passwords["tenant-admin-web-3"])["IdToken"]
    assert ask(url, "/pooled/products", token, "DELETE").status_code == 405
    assert ask(url, "/pooled/products?limit=many", token).status_code == 400


def test_tokens_that_are_broken_forged_or_of_another_kind_are_not_accepted(url, made, clients):
    made(("web-4", Tier.BASIC))
    tokens = sign_in(clients, "web-4", made.passwords["tenant-admin-web-4"])
    good = tokens["IdToken"]
    assert ask(url, "/pooled/products", good).status_code == 200
    claims = jwt.decode(good, options={"verify_signature": False})
    kid = jwt.get_unverified_header(good)["kid"]
    forged = jwt.encode(claims, "a secret of the forger, long enough", algorithm="HS256", headers={"kid": kid})
    header, _, signature = good.split(".")
    changed = base64.urlsafe_b64encode(json.dumps(claims | {TENANT_CLAIM: "web-1"}).encode()).decode().rstrip("=")
    unsigned = jwt.encode(claims, None, algorithm="none")
    for bad in ("", "nonsense", forged, f"{header}.{changed}.{signature}", unsigned, tokens["AccessToken"]):
        assert ask(url, "/pooled/products", bad).status_code == 401, bad[:20]
    assert (
        requests.get(f"{url}/pooled/products", headers={"Authorization": f"Basic {good}"}, timeout=30).status_code
        == 401
    )


def test_a_token_of_another_pool_is_not_accepted(url, made, clients):
    made(("web-5", Tier.BASIC), ("web-6", Tier.PLATINUM), ("web-7", Tier.PLATINUM))
    tokens = {
        name: sign_in(clients, name, made.passwords[f"tenant-admin-{name}"])["IdToken"]
        for name in ("web-5", "web-6", "web-7")
    }
    assert ask(url, "/web-6/products", tokens["web-6"]).status_code == 200
    for name, elsewhere in (("web-5", "/web-6"), ("web-6", "/web-7"), ("web-7", "/pooled")):
        answer = ask(url, f"{elsewhere}/products", tokens[name])
        assert answer.status_code == 308
        assert answer.headers["Location"].startswith(tenant_of(clients, name).route.api_url + "/products")


def test_a_user_of_one_pool_who_claims_another_tenant_gets_nothing(url, made, clients):
    api = made(("web-8", Tier.PLATINUM), ("web-9", Tier.BASIC))
    secret = api.put("web-9", "Product", None, {"name": "secret"}).key
    route = tenant_of(clients, "web-8").route
    clients.cognito.admin_update_user_attributes(
        UserPoolId=route.user_pool_id,
        Username="tenant-admin-web-8",
        UserAttributes=[{"Name": TENANT_CLAIM, "Value": "web-9"}],
    )
    token = sign_in(clients, "web-8", made.passwords["tenant-admin-web-8"])["IdToken"]
    assert jwt.decode(token, options={"verify_signature": False})[TENANT_CLAIM] == "web-9"
    assert ask(url, f"/pooled/products/{secret}", token).status_code == 401  # that pool has no business there
    assert ask(url, f"/web-8/products/{secret}", token).status_code == 403  # it has here, but not for that tenant
    assert ask(url, "/web-8/products", token).status_code == 403


def test_the_tenant_is_that_of_the_token_whatever_the_key_says(url, made, clients):
    api = made(("web-10", Tier.BASIC), ("web-10-1", Tier.BASIC))
    key = api.put("web-10-1", "Product", "web-10-1-1:a", {"name": "other"}).key
    with pytest.raises(NotFound):
        api.get("web-10", "Product", key)
    with pytest.raises(NotFound):
        api.put("web-10", "Product", "web-10-1-1:b", {"name": "intruder"})


def test_an_api_key_that_is_sent_must_be_the_tiers(url, made, clients):
    made(("web-11", Tier.BASIC), ("web-12", Tier.PREMIUM))
    token = sign_in(clients, "web-11", made.passwords["tenant-admin-web-11"])["IdToken"]
    keys = {name: tenant_of(clients, name).route.api_key for name in ("web-11", "web-12")}
    assert keys["web-11"] != keys["web-12"]
    assert ask(url, "/pooled/products", token, **{"X-Api-Key": keys["web-11"]}).status_code == 200
    assert ask(url, "/pooled/products", token, **{"X-Api-Key": keys["web-12"]}).status_code == 401


def test_in_a_fence_the_answer_is_503_with_when_to_come_again(url, made, clients):
    api = made(("web-13", Tier.BASIC))
    key = api.put("web-13", "Product", None, {"name": "a"}).key
    close(clients, "web-13", time.time() + 60)
    token = sign_in(clients, "web-13", made.passwords["tenant-admin-web-13"])["IdToken"]
    answer = ask(url, f"/pooled/products/{key}", token, "PUT")
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    with pytest.raises(Fenced):
        api.delete("web-13", "Product", key)
    assert api.get("web-13", "Product", key).item["name"] == "a"


def moved(clients, tenant_id, url, *, in_migration):
    """Switch a pooled tenant to a silo with a pool of its own, whose users have come along."""
    make_data_tables(clients.dynamodb, tenant_id)
    other = f"{tenant_id}-pool-maker"
    seed(clients, items_per_tenant=0, api_url=url, tenants=[SeedTenant(other, Tier.PLATINUM)], users=False)
    tenant, silo = tenant_of(clients, tenant_id), tenant_of(clients, other).route
    store = MigrationStore(clients.dynamodb)
    if in_migration:
        identity = {
            "moves": True,
            "source_user_pool_id": tenant.route.user_pool_id,
            "source_app_client_id": tenant.route.app_client_id,
            "user_pool_id": silo.user_pool_id,
            "app_client_id": silo.app_client_id,
            "deadline": int((time.time() + 3600) * 1000),
        }
        store.plan(f"m-{tenant_id}", tenant_id, {}, {"identity": identity}, by="test")
    route = replace(silo, api_url=f"{url}/{tenant_id}")
    switch_unfenced(clients, tenant_id, route)
    clients.cognito.admin_create_user(
        UserPoolId=silo.user_pool_id,
        Username=user_names(tenant_id)[0],
        UserAttributes=[{"Name": TENANT_CLAIM, "Value": tenant_id}, {"Name": "email", "Value": "a@b.example"}],
        MessageAction="SUPPRESS",
    )


def test_a_client_follows_its_tenant_and_its_old_token_holds_until_the_identity_has_moved(url, made, clients):
    api = made(("web-14", Tier.BASIC))
    api.put("web-14", "Product", "web-14-1:before", {"name": "a"})
    old = sign_in(clients, "web-14", made.passwords["tenant-admin-web-14"])["IdToken"]
    moved(clients, "web-14", url, in_migration=True)
    for _ in range(2):  # each instance has a cache of its own
        assert ask(url, "/web-14/products", old).status_code == 200
    assert ask(url, "/pooled/products?limit=3", old).headers["Location"] == f"{url}/web-14/products?limit=3"
    written = api.put("web-14", "Product", "web-14-1:after", {"name": "b"})
    assert written.epoch == 1
    assert [item["productId"] for item in api.list("web-14", "Product").items] == ["after"]  # nothing was copied here


def test_outside_a_migration_only_the_present_pool_is_accepted(url, made, clients, aws):
    made(("web-15", Tier.BASIC))
    old = sign_in(clients, "web-15", made.passwords["tenant-admin-web-15"])["IdToken"]
    moved(clients, "web-15", url, in_migration=False)
    assert ask(url, "/web-15/products", old).status_code == 401
    silo = tenant_of(clients, "web-15").route
    clients.cognito.admin_set_user_password(
        UserPoolId=silo.user_pool_id, Username="tenant-admin-web-15", Password="Changed-1-now", Permanent=True
    )
    new = sign_in(clients, "web-15", "Changed-1-now")["IdToken"]
    assert ask(url, "/web-15/products", new).status_code == 200


def test_an_inactive_tenant_is_forbidden(url, made, clients):
    api = made(("web-16", Tier.BASIC))
    clients.dynamodb.update_item(
        TableName="ServerlessSaaS-TenantDetails",
        Key={"tenantId": {"S": "web-16"}},
        UpdateExpression="SET isActive = :no",
        ExpressionAttributeValues={":no": {"BOOL": False}},
    )
    with pytest.raises(Forbidden):
        api.list("web-16", "Product")


def test_a_server_that_is_gone_leaves_the_client_without_an_answer(clients, made):
    api = made(("web-17", Tier.BASIC))
    gone = HttpApi("http://127.0.0.1:9", clients, api._logins)
    with pytest.raises(Unclear):
        gone.put("web-17", "Product", None, {"name": "a"})


def test_a_load_over_http_is_judged_like_any_other(made, clients, tmp_path):
    api = made(("web-18", Tier.BASIC), ("web-19", Tier.PLATINUM))
    tenants = ["web-18", "web-19"]
    with Load([api], tenants, journal=tmp_path / "journal", pause=0.005) as load:
        load.wait_for_writes(30)
    verdict = judge_tables(tmp_path / "journal", clients)
    assert verdict.ok, verdict
    assert verdict.acknowledged >= 60
    assert verdict.failed_reads == 0


@pytest.fixture
def served(aws, project_root):
    """The application as a process of its own."""
    command = [sys.executable, "-m", "include.local.saas", "--port", "0", "--aws", aws]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=project_root) as process:
        ready = process.stdout.readline()
        assert ready.startswith("ready on "), ready
        yield ready.removeprefix("ready on ").strip()
        process.terminate()
        assert process.wait(30) == 0


def test_application_and_load_run_as_processes(served, aws, clients, tmp_path, project_root):
    made = seed(clients, items_per_tenant=0, api_url=served, tenants=[SeedTenant("web-20", Tier.BASIC)])
    write_logins(tmp_path / "logins", made.passwords)
    assert (tmp_path / "logins").stat().st_mode & 0o777 == 0o600
    command = [sys.executable, "-m", "include.local.saas.load", "--url", served, "--aws", aws, "--tenant", "web-20"]
    files = ["--journal", str(tmp_path / "journal"), "--logins", str(tmp_path / "logins")]
    done = subprocess.run(
        [*command, *files, "--seconds", "2"], capture_output=True, text=True, cwd=project_root, timeout=120, check=True
    )
    ready, figures = done.stdout.splitlines()
    assert ready == "ready"
    figures = json.loads(figures)["web-20"]
    journal = list(entries(tmp_path / "journal"))
    assert figures["writes"] == sum(entry.told in (Told.WRITTEN, Told.DELETED) for entry in journal) > 0
    assert (figures["gap"], figures["gap_seconds"]) == (None, 0.0)
    assert judge_tables(tmp_path / "journal", clients).ok


def test_a_load_for_a_tenant_without_a_login_says_so(tmp_path):
    from include.local.saas.logins import login_of

    with pytest.raises(ValueError, match="found none"):
        login_of(tmp_path / "logins", "acme")
    write_logins(tmp_path / "logins", {"tenant-admin-globex": "x"})
    with pytest.raises(ValueError, match=r"expected the user tenant-admin-acme .*, found tenant-admin-globex"):
        login_of(tmp_path / "logins", "acme")
