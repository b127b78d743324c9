from __future__ import annotations

import time
import urllib.request

import pytest

from include.local.aws.trial import trial_aws
from include.local.saas.clients import clients_at

ROLE = "arn:aws:iam::123456789012:role/import"


@pytest.fixture(scope="module")
def cognito():
    with trial_aws() as url:
        yield clients_at(url).cognito


@pytest.fixture
def pool_id(cognito):
    return make_pool(cognito, AutoVerifiedAttributes=["email"])


def make_pool(cognito, **settings):
    return cognito.create_user_pool(
        PoolName="trial", Schema=[{"Name": "tenantId", "AttributeDataType": "String", "Mutable": False}], **settings
    )["UserPool"]["Id"]


def make_job(cognito, pool_id):
    return cognito.create_user_import_job(UserPoolId=pool_id, JobName="trial", CloudWatchLogsRoleArn=ROLE)[
        "UserImportJob"
    ]


def upload(url, text):
    headers = {"x-amz-server-side-encryption": "aws:kms"}
    with urllib.request.urlopen(urllib.request.Request(url, text.encode(), headers, method="PUT")) as answer:
        assert answer.status == 200


def line(header, **cells):
    cells = {"cognito:mfa_enabled": "false", **{name.replace("__", ":"): value for name, value in cells.items()}}
    return ",".join(cells.get(name, "") for name in header)


def start(cognito, job):
    return cognito.start_user_import_job(UserPoolId=job["UserPoolId"], JobId=job["JobId"])["UserImportJob"]


def wait(cognito, job):
    seen = []
    for _ in range(100):
        found = cognito.describe_user_import_job(UserPoolId=job["UserPoolId"], JobId=job["JobId"])["UserImportJob"]
        seen.append(found["Status"])
        if found["Status"] not in {"Pending", "InProgress"}:
            return found, seen
        time.sleep(0.01)
    raise AssertionError(f"the job did not end: {seen}")


def test_the_header_names_the_attributes_of_the_pool(cognito, pool_id):
    header = cognito.get_csv_header(UserPoolId=pool_id)["CSVHeader"]

    assert {"email", "email_verified", "custom:tenantId", "cognito:username", "cognito:mfa_enabled"} <= set(header)
    assert "sub" not in header


def test_each_line_is_imported_skipped_or_failed(cognito, pool_id):
    cognito.admin_create_user(UserPoolId=pool_id, Username="there", MessageAction="SUPPRESS")
    header = cognito.get_csv_header(UserPoolId=pool_id)["CSVHeader"]
    verified = {"email_verified": "true", "custom__tenantId": "acme"}
    job = make_job(cognito, pool_id)
    lines = [
        ",".join(header),
        line(header, cognito__username="ann", email="ann@example.org", name=r"Doe\, Ann", **verified),
        line(header, cognito__username="there", email="there@example.org", **verified),
        line(header, cognito__username="unverified", email="u@example.org", email_verified="false"),
        line(header, email="nameless@example.org", **verified),
        "too,few",
    ]
    upload(job["PreSignedUrl"], "\n".join(lines))

    assert start(cognito, job)["Status"] == "Pending"
    found, seen = wait(cognito, job)

    assert seen == ["InProgress", "Succeeded"]
    assert (found["ImportedUsers"], found["SkippedUsers"], found["FailedUsers"]) == (1, 1, 3)
    ann = cognito.admin_get_user(UserPoolId=pool_id, Username="ann")
    attributes = {each["Name"]: each["Value"] for each in ann["UserAttributes"]}
    assert ann["UserStatus"] == "RESET_REQUIRED"
    assert attributes["custom:tenantId"] == "acme"
    assert attributes["name"] == "Doe, Ann"
    assert cognito.admin_get_user(UserPoolId=pool_id, Username="there")["UserStatus"] == "FORCE_CHANGE_PASSWORD"
    (listed,) = cognito.list_user_import_jobs(UserPoolId=pool_id, MaxResults=10)["UserImportJobs"]
    assert listed["Status"] == "Succeeded"


def test_an_imported_user_has_no_password(cognito, pool_id):
    header = cognito.get_csv_header(UserPoolId=pool_id)["CSVHeader"]
    job = make_job(cognito, pool_id)
    upload(
        job["PreSignedUrl"],
        "\n".join(
            [",".join(header), line(header, cognito__username="ann", email="ann@example.org", email_verified="true")]
        ),
    )
    start(cognito, job)
    wait(cognito, job)
    client_id = cognito.create_user_pool_client(
        UserPoolId=pool_id, ClientName="app", ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH"]
    )["UserPoolClient"]["ClientId"]

    with pytest.raises(cognito.exceptions.PasswordResetRequiredException):
        cognito.initiate_auth(
            ClientId=client_id,
            AuthFlow="USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": "ann", "PASSWORD": "whatever"},
        )


def test_one_job_runs_at_a_time(cognito, pool_id):
    header = ",".join(cognito.get_csv_header(UserPoolId=pool_id)["CSVHeader"])
    first, second = make_job(cognito, pool_id), make_job(cognito, pool_id)
    for job in (first, second):
        upload(job["PreSignedUrl"], header)
    start(cognito, first)

    with pytest.raises(cognito.exceptions.PreconditionNotMetException, match="another"):
        start(cognito, second)

    wait(cognito, first)
    start(cognito, second)
    assert wait(cognito, second)[0]["Status"] == "Succeeded"


def test_a_file_with_another_header_fails(cognito, pool_id):
    job = make_job(cognito, pool_id)
    upload(job["PreSignedUrl"], "cognito:username,email\nann,ann@example.org")
    start(cognito, job)

    found, _ = wait(cognito, job)

    assert found["Status"] == "Failed"
    assert "header" in found["CompletionMessage"]
    assert not cognito.list_users(UserPoolId=pool_id)["Users"]


def test_a_job_is_not_started_without_a_file_or_in_a_pool_that_verifies_nothing(cognito, pool_id):
    with pytest.raises(cognito.exceptions.PreconditionNotMetException, match="no file"):
        start(cognito, make_job(cognito, pool_id))
    job = make_job(cognito, make_pool(cognito))
    upload(job["PreSignedUrl"], "any")
    with pytest.raises(cognito.exceptions.PreconditionNotMetException, match="verifies no attribute"):
        start(cognito, job)
