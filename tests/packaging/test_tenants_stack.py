"""The template of deploy/tenants, made in the AWS stand-in and looked at by the code that depends on it."""

from __future__ import annotations

import io
import json
import zipfile

import pytest

from include.local.aws.trial import trial_aws
from include.local.saas.clients import REGION, clients_at
from include.tenants.archive import check_bucket, signing_key
from include.tenants.portability import Portability, PortabilityConfig
from include.tenants.saas import FENCES, MIGRATIONS, PARTITION_KEY, TENANT_USERS
from include.tenants.store import PARTITION, SORT
from include.tenants.tables import facts

CODE = "code-of-functions"
EVIDENCE = "evidence-of-migrations"


@pytest.fixture(scope="module")
def template(project_root):
    return (project_root / "deploy" / "tenants" / "stack.json").read_text()


@pytest.fixture(scope="module")
def resources(template):
    return json.loads(template)["Resources"]


@pytest.fixture(scope="module")
def deployed(template, project_root):
    with trial_aws([CODE]) as url:
        clients = clients_at(url)
        package = io.BytesIO()
        with zipfile.ZipFile(package, "w") as archive:
            archive.write(project_root / "include" / "tenants" / "user_migration.py", "user_migration.py")
        clients.s3.put_object(Bucket=CODE, Key="user_migration.zip", Body=package.getvalue())
        parts = json.loads(template)
        _make_bucket_and_key(clients, parts)
        parameters = {"EvidenceBucketName": EVIDENCE, "CodeBucket": CODE}
        clients.cloudformation.create_stack(
            StackName="tenant-portability",
            TemplateBody=json.dumps(parts),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
        yield Portability(clients, PortabilityConfig("reports", EVIDENCE, "alias/tenant-migrations"))


def _make_bucket_and_key(clients, parts):
    """By API, as the template says: moto's CloudFormation makes the bucket without its lock, and a key that can't be read."""
    made = {
        name: parts["Resources"].pop(name) for name in ("Evidence", "EvidencePolicy", "SigningKey", "SigningKeyAlias")
    }
    for name in ("EvidenceBucket", "SigningKey"):
        del parts["Outputs"][name]
    clients.s3.create_bucket(
        Bucket=EVIDENCE, ObjectLockEnabledForBucket=made["Evidence"]["Properties"]["ObjectLockEnabled"]
    )
    key = made["SigningKey"]["Properties"]
    key_id = clients.kms.create_key(KeySpec=key["KeySpec"], KeyUsage=key["KeyUsage"])["KeyMetadata"]["KeyId"]
    assert made["SigningKeyAlias"]["Properties"]["TargetKeyId"] == {"Ref": "SigningKey"}
    clients.kms.create_alias(AliasName=made["SigningKeyAlias"]["Properties"]["AliasName"], TargetKeyId=key_id)


def outputs(p):
    [stack] = p.clients.cloudformation.describe_stacks(StackName="tenant-portability")["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    return {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}


def test_the_tables_are_those_that_the_code_reads(deployed):
    assert facts(deployed, MIGRATIONS).keys == ((PARTITION, "S"), (SORT, "S"))
    assert facts(deployed, FENCES).keys == ((PARTITION_KEY, "S"),)
    deployed.store.plan("m-1", "acme", {}, {}, by="test")


@pytest.mark.parametrize("name", ["Migrations", "Fences"])
def test_the_tables_are_protected(resources, name):
    table = resources[name]
    properties = table["Properties"]
    assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == "Retain"
    assert properties["BillingMode"] == "PAY_PER_REQUEST"
    assert properties["SSESpecification"] == {"SSEEnabled": True, "SSEType": "KMS"}
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["DeletionProtectionEnabled"] is True


def test_the_key_signs_and_stays(deployed, resources):
    assert signing_key(deployed)[1] == "ECDSA_SHA_256"
    assert resources["SigningKey"]["DeletionPolicy"] == resources["SigningKey"]["UpdateReplacePolicy"] == "Retain"


def test_the_bucket_is_private_and_locks(deployed, resources):
    bucket = resources["Evidence"]
    properties = bucket["Properties"]
    check_bucket(deployed.clients.s3, EVIDENCE)
    assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"
    assert properties["ObjectLockEnabled"] is True
    assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(properties["PublicAccessBlockConfiguration"]) == 4
    denied = {each["Sid"]: each for each in resources["EvidencePolicy"]["Properties"]["PolicyDocument"]["Statement"]}
    assert denied["OnlyLockedObjects"]["Condition"] == {"StringNotEquals": {"s3:object-lock-mode": "COMPLIANCE"}}
    assert {each["Effect"] for each in denied.values()} == {"Deny"}


def test_the_function_is_the_file_alone(deployed, resources, project_root):
    import boto3

    endpoint = deployed.clients.s3.meta.endpoint_url
    client = boto3.client(
        "lambda",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="stand-in",
        aws_secret_access_key="not-a-secret",
    )
    found = client.get_function_configuration(FunctionName="tenant-user-migration")
    assert found["FunctionArn"] == outputs(deployed)["UserMigrationFunction"]
    assert found["Environment"]["Variables"] == {"MIGRATIONS_TABLE": MIGRATIONS, "TENANT_USERS_TABLE": TENANT_USERS}
    module, _, function = found["Handler"].partition(".")
    text = (project_root / "include" / "tenants" / f"{module}.py").read_text()
    assert f"def {function}(" in text
    assert "include" not in {
        line.split()[1].partition(".")[0] for line in text.splitlines() if line.startswith("from ")
    }


def test_cognito_may_call_the_function_and_take_the_role(deployed, resources):
    permission = resources["UserMigrationPermission"]["Properties"]
    assert permission["Principal"] == "cognito-idp.amazonaws.com"
    assert permission["SourceAccount"] == {"Ref": "AWS::AccountId"}
    [statement] = resources["UserImportRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    assert outputs(deployed)["UserImportRole"].startswith("arn:aws:iam::")


def test_the_settings_that_the_readme_names_are_those_that_the_code_reads(project_root):
    from include.tenants import identity, isolation, user_ways

    text = (project_root / "deploy" / "tenants" / "README.md").read_text()
    for name in (user_ways.FUNCTION, identity.IMPORT_ROLE, isolation.ROLE_SETTING, isolation.POLICY_SETTING):
        assert f"| `{name}` |" in text
