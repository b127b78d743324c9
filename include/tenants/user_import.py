"""Users that are made in bulk, without passwords: each sets one by a code that Cognito sends.

Cognito imports them from a CSV file of its own kind (no quotation marks; a comma in a value has a backslash before it), one job of an
account at a time, users with a verified address only. A job whose file was never sent stays *Created*, and bars none. Whoever can't be
told in such a file, or has no verified address, is made one by one; an administrator has to give those a password.
"""

from __future__ import annotations

import urllib.request
from itertools import batched
from typing import TYPE_CHECKING, Any, Final

from include.tenants.exceptions import IdentityIncomplete
from include.tenants.user_pools import PAGE, described, patiently

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from include.tenants.portability import Portability

MOST_OF_A_JOB: Final = 100_000
"""Users; Cognito takes 500,000 and 100 MB."""
WAIT_SECONDS: Final = 3600.0
_LOOK_SECONDS: Final = 0.5
_UPLOAD_SECONDS: Final = 60
_RUNNING: Final = frozenset({"Pending", "InProgress", "Stopping"})
_CANT_BE_TOLD: Final = frozenset('"\\\r\n')


def import_users(
    p: Portability,
    pool_id: str,
    users: Mapping[str, Mapping[str, str]],
    *,
    name: str,
    role_arn: str,
    say: Callable[[str], None],
    seconds: float = WAIT_SECONDS,
) -> tuple[int, int]:
    """Make users in a pool; those who are there already stay as they are.

    Args:
        p: what the steps work with.
        pool_id: where.
        users: attributes by user name.
        name: of the jobs, so that a retry finds one that is still running.
        role_arn: that lets Cognito write the job's log.
        say: tells how it goes.
        seconds: how long to wait for Cognito; a job that is given up goes on, and the next try waits for it.

    Returns:
        How many were in the files, and how many were made one by one.

    Raises:
        IdentityIncomplete: a job failed, or did not end.
    """
    _wait_for_running(p, pool_id, name, seconds)
    kinds = described(p, pool_id).get("AutoVerifiedAttributes") or []
    told = {user: values for user, values in users.items() if _can_be_told(user, values, kinds)}
    for part in batched(sorted(told), MOST_OF_A_JOB):
        job = _run_job(p, pool_id, {user: told[user] for user in part}, name, role_arn, seconds)
        say(
            f"imported {job['ImportedUsers']} users, {job['SkippedUsers']} were there, {job['FailedUsers']} could not be imported"
        )
    others = sorted(users.keys() - told.keys())
    for user in others:
        create_user(p, pool_id, user, users[user])
    if others:
        say(
            f"made {len(others)} users one by one: they have no verified address, or their attributes do not fit into the file"
        )
    return len(told), len(others)


def create_user(p: Portability, pool_id: str, name: str, attributes: Mapping[str, str]) -> None:
    """Make a user whom nobody is told of, with a password that nobody knows; one who is there stays."""
    cognito = p.clients.cognito
    try:
        patiently(
            p,
            cognito.admin_create_user,
            UserPoolId=pool_id,
            Username=name,
            UserAttributes=[{"Name": each, "Value": value} for each, value in attributes.items()],
            MessageAction="SUPPRESS",
        )
    except cognito.exceptions.UsernameExistsException:
        return


def to_csv(header: Sequence[str], users: Mapping[str, Mapping[str, str]]) -> str:
    """The file: a line per user, in Cognito's own kind of CSV."""
    lines = [",".join(header)]
    for user, attributes in users.items():
        cells = {**attributes, "cognito:username": user, "cognito:mfa_enabled": "false"}
        lines.append(",".join(cells.get(column, "").replace(",", "\\,") for column in header))
    return "\n".join(lines)


def _can_be_told(user: str, attributes: Mapping[str, str], kinds: Iterable[str]) -> bool:
    verified = any(attributes.get(kind) and attributes.get(f"{kind}_verified") == "true" for kind in kinds)
    return verified and not any(_CANT_BE_TOLD & set(value) for value in (user, *attributes.values()))


def _run_job(
    p: Portability, pool_id: str, users: Mapping[str, Mapping[str, str]], name: str, role_arn: str, seconds: float
) -> dict[str, Any]:
    cognito = p.clients.cognito
    header = patiently(p, cognito.get_csv_header, UserPoolId=pool_id)["CSVHeader"]
    job = patiently(
        p, cognito.create_user_import_job, UserPoolId=pool_id, JobName=name, CloudWatchLogsRoleArn=role_arn
    )["UserImportJob"]
    request = urllib.request.Request(  # noqa: S310 - Cognito's own pre-signed address
        job["PreSignedUrl"],
        to_csv(header, users).encode(),
        {"x-amz-server-side-encryption": "aws:kms", "Content-Type": "text/csv"},
        method="PUT",
    )
    with urllib.request.urlopen(request, timeout=_UPLOAD_SECONDS):  # noqa: S310
        pass
    _start(p, pool_id, job["JobId"], seconds)
    return _wait(p, pool_id, job["JobId"], seconds)


def _start(p: Portability, pool_id: str, job_id: str, seconds: float) -> None:
    """Start a job, when no other of the account is running any more."""
    cognito, end = p.clients.cognito, p.clock() + seconds
    while True:
        try:
            patiently(p, cognito.start_user_import_job, UserPoolId=pool_id, JobId=job_id)
        except cognito.exceptions.PreconditionNotMetException as error:
            if p.clock() > end:
                raise IdentityIncomplete(
                    f"expected Cognito to start the import {job_id} within {seconds:.0f} s, found {error}; try again"
                ) from error
            p.sleep(_LOOK_SECONDS)
        else:
            return


def _wait(p: Portability, pool_id: str, job_id: str, seconds: float) -> dict[str, Any]:
    end = p.clock() + seconds
    while True:
        job: dict[str, Any] = patiently(
            p, p.clients.cognito.describe_user_import_job, UserPoolId=pool_id, JobId=job_id
        )["UserImportJob"]
        if job["Status"] == "Succeeded":
            return job
        if job["Status"] not in _RUNNING or p.clock() > end:
            raise IdentityIncomplete(
                f"expected the import {job_id} to succeed within {seconds:.0f} s, found it {job['Status']}: "
                f"{job.get('CompletionMessage', 'no message')}; its log group is /aws/cognito/userpools/{pool_id}; try again"
            )
        p.sleep(_LOOK_SECONDS)


def _wait_for_running(p: Portability, pool_id: str, name: str, seconds: float) -> None:
    """Let a job end that an earlier try has started."""
    token: dict[str, str] = {}
    while True:
        page = patiently(p, p.clients.cognito.list_user_import_jobs, UserPoolId=pool_id, MaxResults=PAGE, **token)
        for job in page.get("UserImportJobs", []):
            if job["JobName"] == name and job["Status"] in _RUNNING:
                _wait(p, pool_id, job["JobId"], seconds)
        if not page.get("PaginationToken"):
            return
        token = {"PaginationToken": page["PaginationToken"]}
