"""The evidence of a migration, locked away before anything is deleted.

In the bucket of `PortabilityConfig.evidence_bucket`, below ``tenants/{tenant}/{migration}/``:

- one JSON object per part of the record: the migration, its audit trail, and each of its notes (plan, comparisons with the data's digests,
  approval, identity, compliance, isolation, …),
- ``manifest.json``: name, version, size and SHA-256 of each,
- ``manifest-….sig``: the signature of the manifest, made before the manifest is put; so a manifest that is there is a signed one, and a
  killed try leaves nothing but objects that no manifest names,
- below ``deletion/`` the same once more after the clean-up: what was deleted, who agreed to it and why, and what was noted since.

Nothing is signed that does not agree with the audit trail, which has the hash of each note (`include.tenants.store`). That shows what was
changed in one place. Who may write to the migrations' table could have written the whole trail anew before it was signed.

Names carry the hash of the content, so that the same content is written once and other content can't take its place. Each object is under
S3's object lock in COMPLIANCE mode, which nobody can lift. What is signed is one line, as ``sha256sum`` writes it, so that an
auditor needs no program of ours: ``sha256sum -c`` and ``openssl dgst -sha256 -verify``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from include.tenants.exceptions import EvidenceInvalid
from include.tenants.plan import moves_data
from include.tenants.saas import TENANTS
from include.tenants.states import OUTCOMES, State
from include.tenants.store import altered, broken_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from include.tenants.portability import Portability
    from include.tenants.store import Event, Migration

PREFIX: Final = "tenants"
MANIFEST: Final = "manifest.json"
MODE: Final = "COMPLIANCE"
ALGORITHMS: Final = ("ECDSA_SHA_256", "RSASSA_PSS_SHA_256")
"""Of those that a key offers, the first one is taken."""
NEEDED: Final = {
    State.COMPLETE: ("plan", "preflight", "configuration", "compliance", "approval"),
    State.ROLLED_BACK: ("plan", "preflight", "configuration", "compliance", "approval"),
    State.ABORTED: ("plan",),
}
"""Notes that the evidence of an outcome must have."""
NEEDED_OF_DATA: Final = ("resources", "observability", "isolation", "identity", "verification", "in_fence", "cutovers")
"""What it must have beside, where data has moved."""
_DIGEST_OF_NAME: Final = 16
_SECRET_CHARACTERS: Final = 20
"""API Gateway's keys have at least so many; what is shorter is a placeholder, which may be part of anything."""
_OF_THE_END: Final = frozenset({"archive", "cleaned", "deletion", "deletion_evidence"})
"""Notes that come after the evidence."""
_OF_TRANSITIONS: Final = frozenset(
    {"plan", "source", "preflight", "verification", "approval", "in_fence", "in_fence_back", "after_soak", "aborted"}
    | {"archive", "cleaned", "deletion"}
)
"""Notes that steps write with a transition only: who wrote one of these later was no step."""


def prefix(migration: Migration) -> str:
    """Where a migration's evidence is in the bucket."""
    return f"{PREFIX}/{migration.tenant_id}/{migration.migration_id}/"


def deletion_prefix(migration: Migration) -> str:
    """Where the evidence of its deletion is."""
    return f"{prefix(migration)}deletion/"


def documents(p: Portability, migration: Migration) -> dict[str, Any]:
    """The parts of the evidence, as plain JSON data, by name.

    Raises:
        EvidenceInvalid: the audit trail was tampered with or says something else than the notes, a part is missing, or one of them holds a
            secret.
    """
    if migration.outcome is None:
        raise EvidenceInvalid(
            f"migration {migration.migration_id}: expected it to be one of {', '.join(OUTCOMES)}, found it {migration.state}"
        )
    record, events = _whole(p, migration)
    wanted = NEEDED[migration.outcome]
    if migration.outcome is not State.ABORTED and moves_data(migration):
        wanted += NEEDED_OF_DATA
    missing = [name for name in wanted if name not in migration.notes]
    if missing:
        raise EvidenceInvalid(
            f"migration {migration.migration_id}: expected notes of {', '.join(wanted)} for an archive, found none of {', '.join(missing)}"
        )
    # what comes after it is no part of its evidence, so that a later look finds the same
    events = _until(events, State.ARCHIVED)
    end = _event_of(migration, events, migration.outcome)
    parts = {
        "migration": _told(record, events, end),
        "events": [asdict(event) for event in events],
        **{f"note-{name}": note for name, note in record.notes.items() if name not in _OF_THE_END},
    }
    _without_secrets(p, migration, parts)
    return parts


def _whole(p: Portability, migration: Migration) -> tuple[Migration, list[Event]]:
    """The migration and its audit trail as they are now.

    Raises:
        EvidenceInvalid: they do not agree.
    """
    record, events = p.store.record(migration.migration_id)
    broken, other = broken_at(events), altered(record, events)
    head = events[-1].digest if events else ""
    rewritten = {name for event in events if not event.moves for name in event.notes} & _OF_TRANSITIONS
    found = ""
    if broken is not None:
        found = f"it broken at event {broken}"
    elif head != record.head:
        found = "it without its last event"
    elif other:
        found = f"something else in {', '.join(other)} than it says"
    elif rewritten:
        found = f"{', '.join(sorted(rewritten))} written anew after the transition that it belongs to"
    if found:
        raise EvidenceInvalid(
            f"migration {migration.migration_id}: expected its audit trail to be whole, and its notes those of the trail, found {found}: "
            "somebody has changed the table; find out who before you go on (CloudTrail, or the table's point-in-time recovery)"
        )
    return record, events


def _until(events: Sequence[Event], state: State) -> list[Event]:
    """The events before the migration came to a state; all if it hasn't."""
    at = next((position for position, event in enumerate(events) if event.moves and event.after == state), len(events))
    return list(events[:at])


def _event_of(migration: Migration, events: Sequence[Event], state: State) -> Event:
    """The event with which the migration came to a state.

    Raises:
        EvidenceInvalid: there is none.
    """
    found = next((event for event in reversed(events) if event.moves and event.after == state), None)
    if found is None or found.at != migration.moments.get(state.value):
        raise EvidenceInvalid(
            f"migration {migration.migration_id}: expected its audit trail to be whole, found it without the event of {state}: somebody "
            "has changed the table; find out who before you go on (CloudTrail, or the table's point-in-time recovery)"
        )
    return found


def _told(record: Migration, events: Sequence[Event], end: Event) -> dict[str, Any]:
    """What it was; by the events, not by what stands beside them."""
    return {
        "migration_id": record.migration_id,
        "tenant_id": record.tenant_id,
        "outcome": str(record.outcome),
        "request": dict(record.request),
        "moments": {event.after: event.at for event in events if event.moves},
        "head": end.digest,
    }


def archive(p: Portability, migration: Migration) -> dict[str, Any]:
    """Write the evidence, lock it, read it again and verify it. Called again, it is the one that is there.

    Args:
        p: what to work with.
        migration: as it came out.

    Returns:
        Where it is; `verify_archive` needs it in the migration's notes, as ``archive``.

    Raises:
        EvidenceInvalid: it can't be locked, or what is there is something else. Nothing may be deleted.
    """
    return _sealed(p, migration, prefix(migration), documents(p, migration), State(str(migration.outcome)))


def archive_deletion(p: Portability, migration: Migration) -> dict[str, Any]:
    """Write, lock and sign what was deleted, by whom, and why; and note where that is. Called again, it is the one that is there.

    Args:
        p: what to work with.
        migration: cleaned.

    Returns:
        Where it is; also in the migration's notes, as ``deletion_evidence``.

    Raises:
        EvidenceInvalid: as for `archive`. What was deleted is gone all the same: mend it, and call this again.
    """
    if migration.state is not State.CLEANED:
        raise EvidenceInvalid(
            f"migration {migration.migration_id}: expected it {State.CLEANED} before its deletion is archived, found it {migration.state}"
        )
    record, events = _whole(p, migration)
    ended = _event_of(record, events, State.CLEANED)
    events = events[: ended.number + 1]
    since = len(_until(events, State.ARCHIVED))
    later = {name for event in events[since:] for name in event.notes}
    parts = {
        "migration": {
            **_told(record, events, ended),
            "evidence": {name: record.notes["archive"][name] for name in ("uri", "version", "sha256")},
            "by": ended.by,
            "why": ended.why,
        },
        "events": [asdict(event) for event in events],
        **{f"note-{name}": record.notes[name] for name in sorted(later - {"archive"})},
    }
    _without_secrets(p, migration, parts)
    found = _sealed(p, migration, deletion_prefix(migration), parts, State.CLEANED)
    if record.notes.get("deletion_evidence") != found:
        p.store.note(migration.migration_id, {"deletion_evidence": found})
    return found


def _sealed(p: Portability, migration: Migration, base: str, parts: Mapping[str, Any], state: State) -> dict[str, Any]:
    """Write the parts below ``base`` and a signed manifest of them, unless one is there; then read all of it again."""
    s3, bucket = p.clients.s3, p.config.evidence_bucket
    check_bucket(s3, bucket)
    key_id, algorithm = signing_key(p)
    until = _locked_until(p, migration, state)
    there = _latest(s3, bucket, base + MANIFEST)
    if there is None:
        manifest = _canonical(
            {
                "migration_id": migration.migration_id,
                "tenant_id": migration.tenant_id,
                "outcome": migration.outcome,
                "head": parts["migration"]["head"],
                "locked_until": until.isoformat(),
                "signing_key": key_id,
                "algorithm": algorithm,
                "objects": [
                    _put_once(s3, bucket, base, name, _canonical(content), until)
                    for name, content in sorted(parts.items())
                ],
            }
        )
        signature = p.clients.kms.sign(
            KeyId=key_id, Message=signed_line(manifest), MessageType="RAW", SigningAlgorithm=algorithm
        )["Signature"]
        _put(s3, bucket, base + _signature_name(manifest), signature, until)
        there = _put(s3, bucket, base + MANIFEST, manifest, until)
    manifest, _ = _read(s3, bucket, base + MANIFEST, there)
    found: dict[str, Any] = {
        "uri": f"s3://{bucket}/{base}{MANIFEST}",
        "version": there,
        # a version put over it later must not hide the good one
        "signature_version": _latest(s3, bucket, base + _signature_name(manifest)),
        "signing_key": key_id,
        "locked_until": until.isoformat(),
    }
    manifest = _verified(p, migration, found, base, state)
    found["sha256"] = hashlib.sha256(manifest).hexdigest()
    found["objects"] = len(json.loads(manifest)["objects"])
    found["public_key"] = base64.b64encode(p.clients.kms.get_public_key(KeyId=key_id)["PublicKey"]).decode()
    return found


def verify_archive(p: Portability, migration: Migration) -> None:
    """See that the evidence is there, locked, and what was signed. What is to be deleted is deleted only after this.

    Raises:
        EvidenceInvalid: it isn't; the message says what.
    """
    found = migration.notes.get("archive")
    if not found:
        raise EvidenceInvalid(
            f"migration {migration.migration_id}: expected its evidence to be archived, found no archive; nothing was deleted"
        )
    manifest = _verified(p, migration, found, prefix(migration), State(str(migration.outcome)))
    if hashlib.sha256(manifest).hexdigest() != found["sha256"]:
        raise EvidenceInvalid(f"{found['uri']}: expected SHA-256 {found['sha256']}, found another; nothing was deleted")


def signed_line(manifest: bytes) -> bytes:
    """What the signature is of: the line that ``sha256sum manifest.json`` writes."""
    return f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST}\n".encode()


def _verified(p: Portability, migration: Migration, found: Mapping[str, Any], base: str, state: State) -> bytes:
    """The manifest, after all that it names was read and found right."""
    s3, bucket = p.clients.s3, p.config.evidence_bucket
    check_bucket(s3, bucket)
    manifest, until = _read(s3, bucket, base + MANIFEST, found["version"])
    # the signature first: nothing that the manifest says counts before
    signature, _ = _read(s3, bucket, base + _signature_name(manifest), found["signature_version"])
    _check_signature(p, migration, found["signing_key"], manifest, signature)
    said = json.loads(manifest)
    _check_manifest(p, migration, said, state)
    least = datetime.fromisoformat(said["locked_until"])
    for each in said["objects"]:
        body, until_each = _read(s3, bucket, each["key"], each["version"])
        if (len(body), hashlib.sha256(body).hexdigest()) != (each["size"], each["sha256"]):
            raise EvidenceInvalid(
                f"s3://{bucket}/{each['key']}: expected {each['size']} bytes with SHA-256 {each['sha256']}, found {len(body)} with "
                f"{hashlib.sha256(body).hexdigest()}: it was tampered with"
            )
        until = min(until, until_each)
    if until < least:
        raise EvidenceInvalid(
            f"s3://{bucket}/{base}: expected all to be locked until {least}, found a lock until {until}"
        )
    return manifest


def _check_manifest(p: Portability, migration: Migration, said: Mapping[str, Any], state: State) -> None:
    """That it is this migration's, and of the audit trail that the table holds."""
    head = _event_of(migration, p.store.events(migration.migration_id), state).digest
    expected = (migration.tenant_id, migration.migration_id, migration.outcome, head)
    found = (said.get("tenant_id"), said.get("migration_id"), said.get("outcome"), said.get("head"))
    if expected != found:
        raise EvidenceInvalid(
            f"manifest of migration {migration.migration_id}: expected tenant, migration, outcome and head of the audit trail {expected}, "
            f"found {found}"
        )


def _check_signature(p: Portability, migration: Migration, key_id: str, manifest: bytes, signature: bytes) -> None:
    from botocore.exceptions import ClientError

    kms = p.clients.kms
    problem = ""
    try:
        algorithm = signing_key(p, key_id)[1]
        answer = kms.verify(
            KeyId=key_id,
            Message=signed_line(manifest),
            MessageType="RAW",
            Signature=signature,
            SigningAlgorithm=algorithm,
        )
        if not answer["SignatureValid"]:
            problem = "the signature is not valid"
    except kms.exceptions.KMSInvalidSignatureException:
        problem = "the signature is not valid"
    except ClientError as error:
        problem = str(error)
    if problem:
        raise EvidenceInvalid(
            f"manifest of migration {migration.migration_id}: expected a signature by the key {key_id}, found: {problem}"
        )


def signing_key(p: Portability, key: str | None = None) -> tuple[str, str]:
    """The key's ARN, which an alias that is moved later doesn't change, and the algorithm.

    Raises:
        EvidenceInvalid: it doesn't sign.
    """
    wanted = key or p.config.signing_key
    from botocore.exceptions import ClientError

    try:
        found = p.clients.kms.describe_key(KeyId=wanted)["KeyMetadata"]
    except ClientError as error:
        raise EvidenceInvalid(f"expected a KMS key {wanted} that signs, found: {error}") from error
    offered = [each for each in ALGORITHMS if each in found.get("SigningAlgorithms", [])]
    if not found.get("Enabled") or found.get("KeyUsage") != "SIGN_VERIFY" or not offered:
        raise EvidenceInvalid(
            f"KMS key {wanted}: expected an enabled key for SIGN_VERIFY with one of {', '.join(ALGORITHMS)}, found "
            f"{found.get('KeyState')} for {found.get('KeyUsage')} with {found.get('SigningAlgorithms', [])}"
        )
    return str(found["Arn"]), offered[0]


def check_bucket(s3: Any, bucket: str) -> None:
    """See that the bucket locks objects.

    Raises:
        EvidenceInvalid: it does not.
    """
    from botocore.exceptions import ClientError

    try:
        found = s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"].get("ObjectLockEnabled")
    except ClientError as error:
        raise EvidenceInvalid(
            f"expected the bucket {bucket} with object lock, found: {error}; object lock is chosen when a bucket is made "
            "(deploy/tenants/stack.json)"
        ) from error
    if found != "Enabled":
        raise EvidenceInvalid(f"expected the bucket {bucket} with object lock, found ObjectLockEnabled {found!r}")


def _locked_until(p: Portability, migration: Migration, state: State) -> datetime:
    """Counted from when the migration came to a state, so that each try says the same."""
    moment = datetime.fromtimestamp(migration.moments[state.value] // 1000, UTC)
    until = moment + timedelta(days=p.config.evidence_days)
    if until.timestamp() <= p.clock():
        raise EvidenceInvalid(
            f"migration {migration.migration_id}: expected its evidence to be locked for {p.config.evidence_days} days from its end, found "
            f"that they were over on {until}; raise evidence_days"
        )
    return until


def _put_once(s3: Any, bucket: str, base: str, name: str, body: bytes, until: datetime) -> dict[str, Any]:
    digest = hashlib.sha256(body).hexdigest()
    key = f"{base}{name}-{digest[:_DIGEST_OF_NAME]}.json"
    version = _put(s3, bucket, key, body, until)
    return {"key": key, "version": version, "size": len(body), "sha256": digest}


def _put(s3: Any, bucket: str, key: str, body: bytes, until: datetime) -> str:
    """Put an object unless it is there, and give the version of the one that is there then."""
    from botocore.exceptions import ClientError

    there = _latest(s3, bucket, key)
    if there is not None:
        return there
    try:
        return str(
            s3.put_object(
                Bucket=bucket,
                Key=key,
                Body=body,
                ContentType="application/octet-stream" if key.endswith(".sig") else "application/json",
                ChecksumAlgorithm="SHA256",
                ObjectLockMode=MODE,
                ObjectLockRetainUntilDate=until,
                IfNoneMatch="*",
            )["VersionId"]
        )
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"PreconditionFailed", "ConditionalRequestConflict"}:
            raise
        there = _latest(s3, bucket, key)  # another try was faster
        if there is None:
            raise
        return there


def _latest(s3: Any, bucket: str, key: str) -> str | None:
    from botocore.exceptions import ClientError

    try:
        return str(s3.head_object(Bucket=bucket, Key=key).get("VersionId"))
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return None
        raise


def _read(s3: Any, bucket: str, key: str, version: str | None) -> tuple[bytes, datetime]:
    """An object's content and until when it is locked.

    Raises:
        EvidenceInvalid: it isn't there, or isn't locked.
    """
    from botocore.exceptions import ClientError

    try:
        found = s3.get_object(Bucket=bucket, Key=key, **({"VersionId": version} if version else {}))
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"NoSuchKey", "NoSuchVersion", "404", "MethodNotAllowed"}:
            raise
        raise EvidenceInvalid(
            f"s3://{bucket}/{key}: expected the version {version or 'that was put'}, found nothing: the evidence is incomplete"
        ) from error
    mode, until = found.get("ObjectLockMode"), found.get("ObjectLockRetainUntilDate")
    if mode != MODE or until is None:
        raise EvidenceInvalid(
            f"s3://{bucket}/{key}: expected it to be locked in mode {MODE}, found {mode} until {until}"
        )
    return found["Body"].read(), until


def _signature_name(manifest: bytes) -> str:
    return f"manifest-{hashlib.sha256(manifest).hexdigest()[:_DIGEST_OF_NAME]}.sig"


def _canonical(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False).encode() + b"\n"


def _without_secrets(p: Portability, migration: Migration, parts: Mapping[str, Any]) -> None:
    """Refuse to lock away for years what nobody may read: the API keys that tenants have."""
    pages = p.clients.dynamodb.get_paginator("scan").paginate(TableName=TENANTS, ProjectionExpression="apiKey")
    keys = {row["apiKey"]["S"] for page in pages for row in page["Items"] if "apiKey" in row}
    secrets = [key for key in keys if len(key) >= _SECRET_CHARACTERS]
    for name, content in parts.items():
        if any(_holds(text, key) for text in _texts(content) for key in secrets):
            raise EvidenceInvalid(
                f"migration {migration.migration_id}: expected no API key in its record, found one in {name}; write that note anew without "
                "it, and give the tenants of that key another"
            )


def _texts(content: Any) -> Iterator[str]:
    """All texts of plain JSON data."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for name, value in content.items():
            yield str(name)
            yield from _texts(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _texts(value)


def _holds(text: str, key: str) -> bool:
    """Whether a key stands in a text as a word of its own: what is part of a longer word is something else."""
    return key in text and re.search(rf"(?<![\w-]){re.escape(key)}(?![\w-])", text) is not None
