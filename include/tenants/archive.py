"""The evidence of a migration, locked away before anything is deleted.

In the bucket of `PortabilityConfig.evidence_bucket`, below ``tenants/{tenant}/{migration}/``:

- one JSON object per part of the record: the migration, its audit trail, and each of its notes (plan, comparisons with the data's digests,
  approval, identity, compliance, isolation, …),
- ``manifest.json``: name, version, size and SHA-256 of each,
- ``manifest-….sig``: the signature of the manifest, made before the manifest is put; so a manifest that is there is a signed one, and a
  killed try leaves nothing but objects that no manifest names.

Names carry the hash of the content, so that the same content is written once and other content can't take its place. Each object is under
S3's object lock in COMPLIANCE mode, which nobody can lift. What is signed is one line, as ``sha256sum`` writes it, so that an
auditor needs no program of ours: ``sha256sum -c`` and ``openssl dgst -sha256 -verify``.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from include.tenants.exceptions import EvidenceInvalid
from include.tenants.plan import moves_data
from include.tenants.saas import TENANTS
from include.tenants.states import OUTCOMES, State
from include.tenants.store import broken_at

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.tenants.portability import Portability
    from include.tenants.store import Migration

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


def prefix(migration: Migration) -> str:
    """Where a migration's evidence is in the bucket."""
    return f"{PREFIX}/{migration.tenant_id}/{migration.migration_id}/"


def documents(p: Portability, migration: Migration) -> dict[str, Any]:
    """The parts of the evidence, as plain JSON data, by name.

    Raises:
        EvidenceInvalid: the audit trail was tampered with, a part is missing, or one of them holds a secret.
    """
    if migration.outcome is None:
        raise EvidenceInvalid(
            f"migration {migration.migration_id}: expected it to be one of {', '.join(OUTCOMES)}, found it {migration.state}"
        )
    # what comes after the outcome is no part of its evidence, so that a later look finds the same
    last = migration.moments[migration.outcome.value]
    events = p.store.events(migration.migration_id)
    broken = broken_at(events)
    ends = [event for event in events if event.after == migration.outcome]
    if broken is not None or not ends or ends[-1].at != last:
        at = f"broken at epoch {broken}" if broken is not None else f"without the event of {migration.outcome}"
        raise EvidenceInvalid(
            f"migration {migration.migration_id}: expected its audit trail to be whole, found it {at}: somebody has changed the table; "
            "find out who before you go on (CloudTrail, or the table's point-in-time recovery)"
        )
    wanted = NEEDED[migration.outcome]
    if migration.outcome is not State.ABORTED and moves_data(migration):
        wanted += NEEDED_OF_DATA
    missing = [name for name in wanted if name not in migration.notes]
    if missing:
        raise EvidenceInvalid(
            f"migration {migration.migration_id}: expected notes of {', '.join(wanted)} for an archive, found none of {', '.join(missing)}"
        )
    parts = {
        "migration": {
            "migration_id": migration.migration_id,
            "tenant_id": migration.tenant_id,
            "outcome": migration.outcome.value,
            "request": dict(migration.request),
            "moments": {name: at for name, at in sorted(migration.moments.items()) if at <= last},
            "head": ends[-1].digest,
        },
        "events": [asdict(event) for event in events if event.epoch <= ends[-1].epoch],
        **{
            f"note-{name}": note
            for name, note in migration.notes.items()
            if name not in {"archive", "cleaned", "deletion"}
        },
    }
    _without_secrets(p, migration, parts)
    return parts


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
    s3, bucket = p.clients.s3, p.config.evidence_bucket
    parts = documents(p, migration)
    check_bucket(s3, bucket)
    key_id, algorithm = signing_key(p)
    until = _locked_until(p, migration)
    there = _latest(s3, bucket, prefix(migration) + MANIFEST)
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
                    _put_once(s3, bucket, prefix(migration), name, _canonical(content), until)
                    for name, content in sorted(parts.items())
                ],
            }
        )
        signature = p.clients.kms.sign(
            KeyId=key_id, Message=signed_line(manifest), MessageType="RAW", SigningAlgorithm=algorithm
        )["Signature"]
        _put(s3, bucket, prefix(migration) + _signature_name(manifest), signature, until)
        there = _put(s3, bucket, prefix(migration) + MANIFEST, manifest, until)
    manifest, _ = _read(s3, bucket, prefix(migration) + MANIFEST, there)
    found: dict[str, Any] = {
        "uri": f"s3://{bucket}/{prefix(migration)}{MANIFEST}",
        "version": there,
        # a version put over it later must not hide the good one
        "signature_version": _latest(s3, bucket, prefix(migration) + _signature_name(manifest)),
        "signing_key": key_id,
        "locked_until": until.isoformat(),
    }
    manifest = _verified(p, migration, found)
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
    manifest = _verified(p, migration, found)
    if hashlib.sha256(manifest).hexdigest() != found["sha256"]:
        raise EvidenceInvalid(f"{found['uri']}: expected SHA-256 {found['sha256']}, found another; nothing was deleted")


def signed_line(manifest: bytes) -> bytes:
    """What the signature is of: the line that ``sha256sum manifest.json`` writes."""
    return f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST}\n".encode()


def _verified(p: Portability, migration: Migration, found: Mapping[str, Any]) -> bytes:
    """The manifest, after all that it names was read and found right."""
    s3, bucket = p.clients.s3, p.config.evidence_bucket
    check_bucket(s3, bucket)
    base = prefix(migration)
    manifest, until = _read(s3, bucket, base + MANIFEST, found["version"])
    # the signature first: nothing that the manifest says counts before
    signature, _ = _read(s3, bucket, base + _signature_name(manifest), found["signature_version"])
    _check_signature(p, migration, found["signing_key"], manifest, signature)
    said = json.loads(manifest)
    _check_manifest(p, migration, said)
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


def _check_manifest(p: Portability, migration: Migration, said: Mapping[str, Any]) -> None:
    """That it is this migration's, and of the audit trail that the table holds."""
    head = next(
        (
            event.digest
            for event in reversed(p.store.events(migration.migration_id))
            if event.after == migration.outcome
        ),
        "",
    )
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


def _locked_until(p: Portability, migration: Migration) -> datetime:
    """Counted from the outcome, so that each try says the same."""
    moment = datetime.fromtimestamp(migration.moments[str(migration.outcome)] // 1000, UTC)
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
    text = json.dumps(parts, ensure_ascii=False)
    pages = p.clients.dynamodb.get_paginator("scan").paginate(TableName=TENANTS, ProjectionExpression="apiKey")
    keys = {row["apiKey"]["S"] for page in pages for row in page["Items"] if "apiKey" in row}
    if any(key and key in text for key in keys):
        raise EvidenceInvalid(
            f"migration {migration.migration_id}: expected no API key in its record, found one; remove it from the notes"
        )
