"""Cognito's import of users from a CSV file, which moto lacks: jobs, the file's upload, and what becomes of each line.

As AWS documents it: the file has no quotation marks, a comma in a value has a backslash before it; imported users have no password and are
RESET_REQUIRED; users that are there already are skipped; one job of an account runs at a time; each user needs a verified address of a kind
that the pool verifies by itself. A job that was started is Pending, then InProgress, then done: it goes on whenever somebody looks at the
jobs, so that nothing of it happens beside a request.
"""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from moto.cognitoidp.exceptions import InvalidParameterException, ResourceNotFoundError
from moto.cognitoidp.models import CognitoIdpUser, CognitoIdpUserPool, UserStatus, cognitoidp_backends
from moto.cognitoidp.responses import CognitoIdpResponse
from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult

from include.local.aws.wrapping import replace

if TYPE_CHECKING:
    from collections.abc import Mapping

PATH: Final = "/user-import/"
"""Where the pre-signed addresses of the jobs are."""
STANDARD: Final = [
    "name",
    "given_name",
    "family_name",
    "middle_name",
    "nickname",
    "preferred_username",
    "profile",
    "picture",
    "website",
    "email",
    "email_verified",
    "gender",
    "birthdate",
    "zoneinfo",
    "locale",
    "phone_number",
    "phone_number_verified",
    "address",
    "updated_at",
]
_MFA: Final = "cognito:mfa_enabled"
_USER_NAME: Final = "cognito:username"
_STEPS: Final = {"Pending": "InProgress", "InProgress": "Succeeded"}
_SEPARATOR: Final = re.compile(r"(?<!\\),")


class PreconditionNotMetException(JsonRESTError):
    """A job can't be started as things are."""

    def __init__(self, message: str) -> None:
        super().__init__("PreconditionNotMetException", message)


@dataclass
class ImportJob:
    """A job.

    Attributes:
        pool_id: whose users they become.
        name: given by who made it.
        role: that could write the log.
        url: where the file is put.
        status: as Cognito names it.
        message: how it ended.
        file: what was put there.
    """

    pool_id: str
    name: str
    role: str
    url: str
    job_id: str
    status: str = "Created"
    message: str = ""
    file: bytes | None = None
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("ImportedUsers", "SkippedUsers", "FailedUsers"), 0)
    )
    made: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As the API shows it."""
        dates = {"CreationDate": self.made, "StartDate": self.started, "CompletionDate": self.ended}
        shown = {
            "JobName": self.name,
            "JobId": self.job_id,
            "UserPoolId": self.pool_id,
            "PreSignedUrl": self.url,
            "Status": self.status,
            "CloudWatchLogsRoleArn": self.role,
            "CompletionMessage": self.message,
            **dates,
            **self.counts,
        }
        return {name: value for name, value in shown.items() if value not in (None, "")}


_JOBS: Final[dict[str, ImportJob]] = {}


def csv_header(pool: CognitoIdpUserPool) -> list[str]:
    """The columns of a pool's file."""
    custom = [name for name in pool.schema_attributes if name.startswith("custom:")]
    return [*STANDARD, *custom, _MFA, _USER_NAME]


def upload(path: str, headers: Mapping[str, str], file: bytes) -> tuple[int, str]:
    """Take the file of a job; the status and text of the answer."""
    job = _JOBS.get(path.removeprefix(PATH))
    if job is None or job.status != "Created":
        return 403, "expected the pre-signed address of a job that was not started yet"
    if headers.get("HTTP_X_AMZ_SERVER_SIDE_ENCRYPTION") != "aws:kms":
        return 403, "expected the header x-amz-server-side-encryption: aws:kms"
    job.file = file
    return 200, ""


def install() -> None:
    """Add the operations to moto's; a second call changes nothing."""
    for name, method in {
        "get_csv_header": _get_csv_header,
        "create_user_import_job": _create,
        "start_user_import_job": _start,
        "describe_user_import_job": _describe,
        "list_user_import_jobs": _list,
    }.items():
        replace(CognitoIdpResponse, name, method)


def _get_csv_header(self: CognitoIdpResponse) -> ActionResult:
    pool = self.backend.describe_user_pool(self._get_param("UserPoolId"))
    return ActionResult({"UserPoolId": pool.id, "CSVHeader": csv_header(pool)})


def _create(self: CognitoIdpResponse) -> ActionResult:
    pool = self.backend.describe_user_pool(self._get_param("UserPoolId"))
    job_id = f"import-{uuid.uuid4().hex[:10]}"
    url = f"http://{self.headers['Host']}{PATH}{job_id}"
    job = ImportJob(pool.id, self._get_param("JobName"), self._get_param("CloudWatchLogsRoleArn"), url, job_id)
    _JOBS[job_id] = job
    return ActionResult({"UserImportJob": job.to_json()})


def _start(self: CognitoIdpResponse) -> ActionResult:
    _go_on()
    job = _job(self)
    pool = self.backend.describe_user_pool(job.pool_id)
    if job.status != "Created":
        raise PreconditionNotMetException(f"the job is {job.status}")
    if any(other.status in _STEPS for other in _JOBS.values()):
        raise PreconditionNotMetException("another import job of the account is running")
    if not pool.extended_config.get("AutoVerifiedAttributes"):
        raise PreconditionNotMetException("the user pool verifies no attribute by itself")
    if job.file is None:
        raise PreconditionNotMetException("there is no file yet")
    job.status, job.started = "Pending", time.time()
    return ActionResult({"UserImportJob": job.to_json()})


def _describe(self: CognitoIdpResponse) -> ActionResult:
    _go_on()
    return ActionResult({"UserImportJob": _job(self).to_json()})


def _list(self: CognitoIdpResponse) -> ActionResult:
    _go_on()
    pool = self.backend.describe_user_pool(self._get_param("UserPoolId"))
    jobs = [job for job in reversed(_JOBS.values()) if job.pool_id == pool.id]
    start = int(self._get_param("PaginationToken") or 0)
    end = start + int(self._get_param("MaxResults"))
    more = {"PaginationToken": str(end)} if end < len(jobs) else {}
    return ActionResult({"UserImportJobs": [job.to_json() for job in jobs[start:end]], **more})


def _job(response: CognitoIdpResponse) -> ImportJob:
    job = _JOBS.get(response._get_param("JobId"))
    if job is None or job.pool_id != response._get_param("UserPoolId"):
        raise ResourceNotFoundError("there is no such import job")
    return job


def _go_on() -> None:
    for job in _JOBS.values():
        if job.status == "InProgress":
            _run(job)
        elif job.status in _STEPS:
            job.status = _STEPS[job.status]


def _run(job: ImportJob) -> None:
    pool = next(
        (
            backend.user_pools[job.pool_id]
            for regions in cognitoidp_backends.values()
            for backend in regions.values()
            if job.pool_id in backend.user_pools
        ),
        None,
    )
    job.ended = time.time()
    lines = (job.file or b"").decode().splitlines()
    header = _SEPARATOR.split(lines[0]) if lines else []
    if pool is None or sorted(header) != sorted(csv_header(pool)):
        job.status, job.message = "Failed", "the header of the file is not the pool's"
        return
    for line in lines[1:]:
        job.counts[_take(pool, header, line)] += 1
    job.status = "Succeeded"
    job.message = "Import Job Completed Successfully."


def _take(pool: CognitoIdpUserPool, header: list[str], line: str) -> str:
    """Make a user of a line, and say how it is counted."""
    cells = [cell.replace("\\,", ",") for cell in _SEPARATOR.split(line)]
    row = {name: cell for name, cell in zip(header, cells, strict=False) if cell}
    name = row.pop(_USER_NAME, "")
    verified = [
        kind
        for kind in pool.extended_config["AutoVerifiedAttributes"]
        if row.get(kind) and row.get(f"{kind}_verified") == "true"
    ]
    if len(cells) != len(header) or not name or row.pop(_MFA, "") not in {"true", "false"} or not verified:
        return "FailedUsers"
    if pool._get_user(name):
        return "SkippedUsers"
    attributes = [{"Name": attribute, "Value": value} for attribute, value in row.items()]
    try:
        user = CognitoIdpUser(pool.id, name, None, UserStatus.RESET_REQUIRED, attributes)
    except InvalidParameterException:
        return "FailedUsers"
    pool.users[user.username] = user
    return "ImportedUsers"
