from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from include.tenants import archive as archive_module
from include.tenants.archive import (
    MANIFEST,
    archive,
    archive_deletion,
    deletion_prefix,
    documents,
    prefix,
    signed_line,
    verify_archive,
)
from include.tenants.exceptions import EvidenceInvalid
from include.tenants.portability import Portability, PortabilityConfig
from include.tenants.saas import MIGRATIONS
from include.tenants.states import State
from tests.include.tenants.histories import led_to, planned, put_tenant

BUCKET = "archive-test-evidence"
UNLOCKED = "archive-test-unlocked"


@pytest.fixture(scope="module")
def locked(clients):
    """A bucket with object lock and a key to sign with, as deploy/tenants/stack.json makes them."""
    clients.s3.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
    clients.s3.create_bucket(Bucket=UNLOCKED)
    key = clients.kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    clients.kms.create_alias(AliasName="alias/archive-test", TargetKeyId=key)
    return key


@pytest.fixture
def p(saas, locked):
    return Portability(saas, PortabilityConfig("data-platform", BUCKET, "alias/archive-test", evidence_days=30))


@pytest.fixture
def done(p, request):
    """A migration of its own per test: what is locked away stays."""
    put_tenant(p.clients, "acme", "Platinum", epoch=1)
    name = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]
    return led_to(p, planned(p, "acme", migration_id=name), State.COMPLETE)


def noted(p, migration, written):
    return p.store.transition(migration, State.ARCHIVED, {"archive": written}, by="test")


def objects(p, migration):
    found = p.clients.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix(migration)).get("Contents", [])
    return {each["Key"].removeprefix(prefix(migration)) for each in found}


def versions(p, migration):
    found = p.clients.s3.list_object_versions(Bucket=BUCKET, Prefix=prefix(migration)).get("Versions", [])
    return [(each["Key"], each["VersionId"]) for each in found]


def body(p, migration, name, **version):
    return p.clients.s3.get_object(Bucket=BUCKET, Key=prefix(migration) + name, **version)["Body"].read()


def test_the_evidence_holds_the_whole_record(p, done):
    written = archive(p, done)
    manifest = json.loads(body(p, done, MANIFEST))
    assert written["objects"] == len(manifest["objects"]) == len(done.notes) + 2
    content = {
        each["key"].removeprefix(prefix(done)).rpartition("-")[0]: json.loads(
            p.clients.s3.get_object(Bucket=BUCKET, Key=each["key"], VersionId=each["version"])["Body"].read()
        )
        for each in manifest["objects"]
    }
    assert content["note-in_fence"] == {"noted": "in_fence"}
    assert [event["after"] for event in content["events"]][-1] == "COMPLETE"
    assert content["events"][-1]["digest"] == content["migration"]["head"] == manifest["head"] == done.head
    assert manifest["locked_until"] == written["locked_until"]
    verify_archive(p, noted(p, done, written))


def test_nobody_can_delete_it(p, done):
    archive(p, done)
    assert len(versions(p, done)) > 10
    for key, version in versions(p, done):
        with pytest.raises(p.clients.s3.exceptions.ClientError, match="Access Denied"):
            p.clients.s3.delete_object(Bucket=BUCKET, Key=key, VersionId=version)
        lock = p.clients.s3.head_object(Bucket=BUCKET, Key=key, VersionId=version)
        assert lock["ObjectLockMode"] == "COMPLIANCE"
        assert lock["ObjectLockRetainUntilDate"] > datetime.now(UTC) + timedelta(days=29)


def test_an_auditor_can_check_it_with_the_public_key_alone(p, done):
    written = archive(p, done)
    manifest = body(p, done, MANIFEST)
    [signature] = [name for name in objects(p, done) if name.endswith(".sig")]
    line = signed_line(manifest)
    assert line == f"{hashlib.sha256(manifest).hexdigest()}  manifest.json\n".encode()
    key = load_der_public_key(base64.b64decode(written["public_key"]))
    key.verify(body(p, done, signature), line, ec.ECDSA(SHA256()))


def test_written_again_it_is_the_same(p, done):
    first = archive(p, done)
    before = versions(p, done)
    assert archive(p, done) == first
    assert versions(p, done) == before


def test_what_is_noted_between_two_tries_does_not_change_it(p, done):
    first = archive(p, done)
    p.store.note(done.migration_id, {"later": 1})
    assert archive(p, p.store.load(done.migration_id)) == first


class Killed(Exception):
    pass


def _failing(put, at, count, **kwargs):
    count.append(1)
    if len(count) == at:
        raise Killed
    return put(**kwargs)


@pytest.mark.parametrize("at", [1, 9, 16, 17])
def test_killed_at_any_object_it_goes_on(p, done, monkeypatch, at):
    put, count = p.clients.s3.put_object, []
    with monkeypatch.context() as patch:
        patch.setattr(p.clients.s3, "put_object", partial(_failing, put, at, count))
        with pytest.raises(Killed):
            archive(p, done)
    p.store.note(done.migration_id, {"meanwhile": at})  # so that the second try's content is another
    written = archive(p, p.store.load(done.migration_id))
    verify_archive(p, noted(p, p.store.load(done.migration_id), written))
    assert count
    assert [name for name in objects(p, done) if name == MANIFEST] == [MANIFEST]


def test_a_changed_object_is_found_out(p, done):
    """COMPLIANCE forbids it; so the read is what is tampered with."""
    migration = noted(p, done, archive(p, done))
    get = p.clients.s3.get_object

    class Tampered(dict):
        def read(self):
            return b'{"approved": true}'

    def tampered(**kwargs):
        found = get(**kwargs)
        return found | {"Body": Tampered()} if "note-approval" in kwargs["Key"] else found

    p.clients.s3.get_object = tampered
    try:
        with pytest.raises(
            EvidenceInvalid, match=r"note-approval-.*\.json: expected \d+ bytes .* it was tampered with"
        ):
            verify_archive(p, migration)
    finally:
        del p.clients.s3.get_object


def test_a_version_put_over_it_later_changes_nothing(p, done):
    migration = noted(p, done, archive(p, done))
    for name in objects(p, done):
        p.clients.s3.put_object(Bucket=BUCKET, Key=prefix(done) + name, Body=b"{}")
    verify_archive(p, migration)


def test_an_object_that_is_not_there_is_named(p, done):
    written = archive(p, done)
    with pytest.raises(EvidenceInvalid, match=r"manifest.json: expected the version [0-9a-f-]+, found nothing"):
        verify_archive(p, noted(p, done, written | {"version": "00000000-0000-4000-8000-000000000000"}))


def _forge(p, migration, change):
    """A manifest put by somebody who may write to the bucket but not sign, noted as if it were the archive."""
    written = archive(p, migration)
    manifest = json.loads(body(p, migration, MANIFEST))
    change(manifest)
    forged = json.dumps(manifest).encode()
    lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": datetime.now(UTC) + timedelta(days=31)}
    put = p.clients.s3.put_object
    version = put(Bucket=BUCKET, Key=prefix(migration) + MANIFEST, Body=forged, **lock)["VersionId"]
    [signature] = [name for name in objects(p, migration) if name.endswith(".sig")]
    name = f"manifest-{hashlib.sha256(forged).hexdigest()[:16]}.sig"
    old = put(Bucket=BUCKET, Key=prefix(migration) + name, Body=body(p, migration, signature), **lock)["VersionId"]
    return written | {
        "version": version,
        "signature_version": old,
        "sha256": hashlib.sha256(forged).hexdigest(),
    }


def test_a_manifest_that_was_not_signed_is_refused(p, done):
    forged = _forge(p, done, lambda manifest: manifest["objects"].pop())
    with pytest.raises(EvidenceInvalid, match=r"expected a signature by the key .*, found: the signature is not valid"):
        verify_archive(p, noted(p, done, forged))


def test_another_migrations_archive_does_not_count(p, done):
    other = led_to(p, planned(p, "other", migration_id=f"{done.migration_id}-x"), State.COMPLETE)
    written = archive(p, done)
    line = body(p, done, MANIFEST)
    lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": datetime.now(UTC) + timedelta(days=31)}
    [signature] = [name for name in objects(p, done) if name.endswith(".sig")]
    moved = {
        "version": p.clients.s3.put_object(Bucket=BUCKET, Key=prefix(other) + MANIFEST, Body=line, **lock)["VersionId"],
        "signature_version": p.clients.s3.put_object(
            Bucket=BUCKET, Key=prefix(other) + signature, Body=body(p, done, signature), **lock
        )["VersionId"],
    }
    with pytest.raises(EvidenceInvalid, match="expected tenant, migration, outcome and head"):
        verify_archive(p, noted(p, other, written | moved))


def test_a_key_that_signs_no_more_verifies_nothing(p, done, locked):
    migration = noted(p, done, archive(p, done))
    p.clients.kms.disable_key(KeyId=locked)
    try:
        with pytest.raises(EvidenceInvalid, match="expected an enabled key"):
            verify_archive(p, migration)
    finally:
        p.clients.kms.enable_key(KeyId=locked)


def test_a_bucket_without_lock_is_refused(p, done):
    open_bucket = dataclasses.replace(p, config=dataclasses.replace(p.config, evidence_bucket=UNLOCKED))
    with pytest.raises(EvidenceInvalid, match="expected the bucket archive-test-unlocked with object lock"):
        archive(open_bucket, done)
    assert "Contents" not in p.clients.s3.list_objects_v2(Bucket=UNLOCKED)


def test_an_object_that_was_put_without_lock_is_refused(p, done, monkeypatch):
    def unlocked(**kwargs):
        return put(**{name: value for name, value in kwargs.items() if not name.startswith("ObjectLock")})

    put = p.clients.s3.put_object
    monkeypatch.setattr(p.clients.s3, "put_object", unlocked)
    with pytest.raises(EvidenceInvalid, match="expected it to be locked in mode COMPLIANCE, found None"):
        archive(p, done)


@pytest.mark.parametrize("key", ["alias/nobody", None])
def test_a_key_that_can_not_sign_is_refused(p, done, key):
    if key is None:
        key = p.clients.kms.create_key()["KeyMetadata"]["KeyId"]  # one that encrypts
    with pytest.raises(EvidenceInvalid, match="KMS key"):
        archive(dataclasses.replace(p, config=dataclasses.replace(p.config, signing_key=key)), done)


def test_an_audit_trail_that_was_changed_is_not_signed(p, done):
    p.clients.dynamodb.update_item(
        TableName=MIGRATIONS,
        Key={"migrationId": {"S": done.migration_id}, "row": {"S": "event#000007"}},
        UpdateExpression="SET why = :why",
        ExpressionAttributeValues={":why": {"S": "somebody agreed"}},
    )
    with pytest.raises(EvidenceInvalid, match="broken at event 7"):
        archive(p, done)


@pytest.mark.parametrize("name", ["approval", "in_fence", "later"])
def test_a_note_that_was_changed_past_the_trail_is_not_signed(p, done, name):
    """By a transition or by a step between two: in the table alone."""
    p.store.note(done.migration_id, {"later": {"items": 2}})
    p.clients.dynamodb.update_item(
        TableName=MIGRATIONS,
        Key={"migrationId": {"S": done.migration_id}, "row": {"S": "migration"}},
        UpdateExpression="SET notes.#name = :value",
        ExpressionAttributeNames={"#name": name},
        ExpressionAttributeValues={":value": {"S": '{"by": "somebody else"}'}},
    )
    with pytest.raises(EvidenceInvalid, match=f"found something else in {name} than it says: somebody has changed"):
        archive(p, p.store.load(done.migration_id))
    assert objects(p, done) == set()


@pytest.mark.parametrize("name", ["approval", "in_fence"])
def test_what_was_decided_and_then_noted_anew_is_not_signed(p, done, name):
    """By this project's own store, so that the trail agrees: but no step does that."""
    p.store.note(done.migration_id, {name: {"by": "somebody else"}})
    with pytest.raises(EvidenceInvalid, match=f"found {name} written anew after the transition that it belongs to"):
        archive(p, p.store.load(done.migration_id))


def test_steps_write_these_notes_with_transitions_only(project_root):
    texts = [path.read_text() for path in sorted((project_root / "include" / "tenants").glob("*.py"))]
    noted = {
        name
        for text in texts
        for names in re.findall(r"store\.note\(\s*[\w.]+,\s*\{(.*?)\}", text, re.DOTALL)
        for name in re.findall(r'"(\w+)":', names)
    }
    assert {"resources", "identity", "identity_finish"} <= noted
    assert not noted & archive_module._OF_TRANSITIONS


def test_a_last_event_that_was_removed_shows(p, done):
    p.store.note(done.migration_id, {"later": 1})
    last = p.store.events(done.migration_id)[-1]
    key = {"migrationId": {"S": done.migration_id}, "row": {"S": f"event#{last.number:06}"}}
    p.clients.dynamodb.delete_item(TableName=MIGRATIONS, Key=key)
    with pytest.raises(EvidenceInvalid, match="found it without its last event"):
        archive(p, done)


def cleaned(p, done, **notes):
    migration = noted(p, done, archive(p, done))
    p.store.note(migration.migration_id, {"identity_finish": {"imported": 3}})
    return p.store.transition(migration, State.CLEANED, notes, by="clean_up", why="nobody needs it")


def test_what_was_deleted_is_signed_with_who_agreed_and_why(p, done):
    approval = {"approved": True, "by": "ann", "why": "nobody needs it", "at": 1}
    migration = cleaned(p, done, cleaned={"items": {"Product-pooled": 30}}, deletion=approval)
    first = objects(p, done)
    found = archive_deletion(p, migration)
    base = deletion_prefix(done).removeprefix(prefix(done))
    content = {
        name.removeprefix(base).rpartition("-")[0]: json.loads(body(p, done, name))
        for name in objects(p, done) - first
        if name.endswith(".json") and not name.endswith(MANIFEST)
    }
    assert sorted(content) == ["events", "migration", "note-cleaned", "note-deletion", "note-identity_finish"]
    assert content["note-cleaned"] == {"items": {"Product-pooled": 30}}
    assert content["note-deletion"] == approval
    told = content["migration"]
    assert (told["by"], told["why"], told["evidence"]["sha256"]) == (
        "clean_up",
        "nobody needs it",
        migration.notes["archive"]["sha256"],
    )
    assert told["head"] == migration.head == content["events"][-1]["digest"]
    key = load_der_public_key(base64.b64decode(found["public_key"]))
    manifest = body(p, done, f"{base}{MANIFEST}")
    [signature] = [name for name in objects(p, done) - first if name.endswith(".sig")]
    key.verify(body(p, done, signature), signed_line(manifest), ec.ECDSA(SHA256()))
    verify_archive(p, migration)


def test_the_deletions_evidence_is_written_once(p, done):
    migration = cleaned(p, done, cleaned={})
    first = archive_deletion(p, migration)
    before = versions(p, done)
    again = p.store.load(done.migration_id)
    assert again.notes["deletion_evidence"] == first
    assert archive_deletion(p, again) == first
    assert versions(p, done) == before
    assert p.store.load(done.migration_id) == again


def test_killed_before_the_deletions_manifest_it_goes_on(p, done, monkeypatch):
    migration = cleaned(p, done, cleaned={})
    put, count = p.clients.s3.put_object, []
    with monkeypatch.context() as patch:
        patch.setattr(p.clients.s3, "put_object", partial(_failing, put, 5, count))
        with pytest.raises(Killed):
            archive_deletion(p, migration)
    assert archive_deletion(p, migration)["objects"] == 4


def test_a_deletion_note_that_was_changed_is_not_signed(p, done):
    migration = cleaned(p, done, cleaned={"items": {}})
    p.clients.dynamodb.update_item(
        TableName=MIGRATIONS,
        Key={"migrationId": {"S": done.migration_id}, "row": {"S": "migration"}},
        UpdateExpression="SET notes.cleaned = :value",
        ExpressionAttributeValues={":value": {"S": "{}"}},
    )
    with pytest.raises(EvidenceInvalid, match="something else in cleaned than it says"):
        archive_deletion(p, migration)


def test_what_is_not_deleted_yet_has_no_evidence_of_it(p, done):
    with pytest.raises(EvidenceInvalid, match="expected it CLEANED before its deletion is archived, found it COMPLETE"):
        archive_deletion(p, done)


@pytest.mark.parametrize("name", ["approval", "in_fence", "compliance"])
def test_evidence_that_lacks_a_part_is_refused(p, done, name):
    without = dataclasses.replace(done, notes={each: done.notes[each] for each in done.notes if each != name})
    with pytest.raises(EvidenceInvalid, match=f"found none of {name}"):
        archive(p, without)


def test_a_migration_that_is_not_over_has_no_evidence_yet(p):
    put_tenant(p.clients, "acme", "Basic")
    with pytest.raises(EvidenceInvalid, match="found it PLANNED"):
        archive(p, planned(p, "acme"))


def test_nothing_is_archived_until_it_is_noted(p, done):
    archive(p, done)
    with pytest.raises(EvidenceInvalid, match="found no archive"):
        verify_archive(p, done)


@pytest.mark.parametrize("outcome", [State.ABORTED, State.ROLLED_BACK])
def test_other_outcomes_are_archived_too(p, outcome, request):
    put_tenant(p.clients, "acme", "Basic")
    name = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]
    migration = led_to(p, planned(p, "acme", migration_id=name), outcome)
    verify_archive(p, noted(p, migration, archive(p, migration)))


def test_what_came_after_the_outcome_is_left_out(p, done):
    before = documents(p, done)
    after = noted(p, done, archive(p, done))
    assert documents(p, after) == before


def test_an_api_key_is_not_locked_away(p, done):
    put_tenant(p.clients, "other", "Basic", api_key="a-secret-of-20-chars")
    p.store.note(done.migration_id, {"fine": 1, "oops": {"x": ["key=a-secret-of-20-chars, sent"]}})
    with pytest.raises(EvidenceInvalid, match="expected no API key in its record, found one in note-oops") as caught:
        archive(p, p.store.load(done.migration_id))
    assert "a-secret-of-20-chars" not in str(caught.value)


@pytest.mark.parametrize("placeholder", ["none", "", "COMPLETE", "in the application's own words"])
def test_a_placeholder_for_a_key_bars_no_archive(p, done, placeholder):
    put_tenant(p.clients, "other", "Basic", api_key=placeholder)
    assert archive(p, done)["objects"] > 10


def test_a_key_that_is_part_of_a_longer_word_is_something_else(p, done):
    put_tenant(p.clients, "other", "Basic", api_key="0123456789abcdef0123")
    p.store.note(done.migration_id, {"digest": "ffff0123456789abcdef0123ffff", "name": "0123456789abcdef0123-pool"})
    assert archive(p, p.store.load(done.migration_id))["objects"] > 10


def test_time_that_is_over_already_is_refused(p, done):
    late = dataclasses.replace(p, clock=lambda: datetime.now(UTC).timestamp() + 31 * 86400)
    with pytest.raises(EvidenceInvalid, match="raise evidence_days"):
        archive(late, done)


def test_every_needed_note_is_one_that_the_steps_write(project_root):
    text = "".join(path.read_text() for path in (project_root / "include" / "tenants").glob("*.py"))
    for names in (*archive_module.NEEDED.values(), archive_module.NEEDED_OF_DATA):
        for name in names:
            assert text.count(f'"{name}"') > 1, name
