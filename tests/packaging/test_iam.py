"""The IAM policies against what the code calls: nothing is missing, nothing is too much."""

from __future__ import annotations

import ast
import json
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from include.platform.settings import load_settings
from tests.packaging.aws_calls import NAMED, operations, scan

NEVER_CALLED_BY_CODE = {"trust.json", "environment.json", "customer-managed-key.json", "tenant_tables_key.json"}
"""What IAM, MWAA itself and the services behind the code's calls need."""
CODE = {"platform.json", "catalog.json"}
TENANTS = {"tenant_portability.json", "tenant_fence.json"}
"""Of the role that the connection aws_tenants assumes; only what moves tenants acts as it."""
INGESTION = {"ingestion.json", "security_lake_registration.json"}
"""Of the role that the connection aws_ingestion assumes; only the intake acts as it."""
LAMBDA = "include/tenants/user_migration.py"
"""Runs as a function of its own, with the role that deploy/tenants/stack.json gives it."""

ENVIRONMENT = {
    *("airflow:PublishMetrics", "s3:ListAllMyBuckets", "s3:GetObject*", "s3:GetBucket*", "s3:List*"),
    *("s3:GetAccountPublicAccessBlock", "cloudwatch:PutMetricData", "logs:DescribeLogGroups"),
    *(f"logs:{name}" for name in ("CreateLogStream", "CreateLogGroup", "PutLogEvents", "GetLogEvents")),
    *(f"logs:{name}" for name in ("GetLogRecord", "GetLogGroupFields", "GetQueryResults")),
    *(f"sqs:{name}" for name in ("ChangeMessageVisibility", "DeleteMessage", "GetQueueAttributes", "GetQueueUrl")),
    *("sqs:ReceiveMessage", "sqs:SendMessage", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey*", "kms:Encrypt"),
}
"""https://docs.aws.amazon.com/mwaa/latest/userguide/mwaa-create-role.html, the sample policy for an AWS-owned key."""

NOT_FROM_CODE = {
    "secretsmanager:GetSecretValue": "the secrets backend of docs/deploy.md, and the Data API for a connection's secret_arn",
    "sts:AssumeRole": "the connections aws_tenants and aws_ingestion name the role in extra.role_arn",
    "s3:ListBucket": "S3 answers 403 instead of 404 for a missing object to whoever may not list the bucket; the code reads both apart",
}
"""Actions that no line of this project's code names."""

NOT_FROM_TENANTS_CODE = {
    "iam:PassRole": "CreateUserImportJob hands the role over by which Cognito logs the import, and a pool gets the one that sends messages",
    "cognito-idp:TagResource": "CreateUserPool with tags",
    "s3:GetObjectVersion": "GetObject of a version",
    "s3:GetObjectRetention": "S3 tells an object's lock only to who may see it",
    "s3:PutObjectRetention": "PutObject with a lock",
    "s3:ListBucket": "as for the platform",
}

NOT_FROM_INTAKE_CODE = {
    "s3:GetObjectVersion": "GetObject of a version",
    "glue:CreateDatabase": "Security Lake makes a custom source with its caller's permissions",
    "glue:CreateCrawler": "as above",
    "glue:StopCrawlerSchedule": "as above",
    "iam:DeleteRolePolicy": "as above",
    "iam:PassRole": "as above: it hands the crawler's role over",
    "iam:PutRolePolicy": "as above",
    "lakeformation:GrantPermissions": "as above",
    "lakeformation:RegisterResource": "as above",
}

NO_RESOURCE_LEVEL = {
    "s3:ListAllMyBuckets": "a list of buckets is of no bucket; denied",
    "s3:GetAccountPublicAccessBlock": "is of the account",
    "logs:DescribeLogGroups": "AWS's own sample; the list can't be narrowed by the pattern of MWAA's groups",
    "cloudwatch:PutMetricData": "metrics are no resources; the namespace is a condition",
    "redshift-data:DescribeStatement": "statements are no resources; their owner is a condition",
    "redshift-data:GetStatementResult": "as above",
    "redshift-data:CancelStatement": "as above",
    "dynamodb:ListTables": "a list of tables is of no table",
    "cognito-idp:ListUserPools": "a list of pools is of no pool",
    "cognito-idp:CreateUserPool": "a pool that isn't there yet has no name that a policy could know: Cognito makes up its id",
    "securitylake:ListDataLakes": "a list of lakes is of no lake",
    "securitylake:ListLogSources": "a list of sources is of no source",
    "glue:CreateCrawler": "a crawler that isn't there yet",
    "glue:StopCrawlerSchedule": "Glue names no resource for it",
    "lakeformation:*": "Lake Formation names no resources; who may grant what says Lake Formation",
    "cloudwatch:DescribeAlarms": "alarms are looked for by the beginning of their names",
    "datazone:*": "of DataZone's actions only those on a domain itself name a resource; what may be done in a domain says the domain",
}
"""Why a statement is on every resource: https://docs.aws.amazon.com/service-authorization/latest/reference/."""

CLIENTS = "".join(f"self._client('{service}')\n" for service in sorted(set(NAMED.values()) | {"redshift-data"}))
"""A module that makes clients of services whose operations have the same names."""

CONNECTOR = {"get_credentials", "get_cluster_credentials", "get_cluster_credentials_with_iam"}
CONNECTOR_NEVER = {
    "get_workgroup": "asked for a host that is not given; dbt is given one",
    "describe_clusters": "as above",
    "describe_custom_domain_associations": "for a host that is a custom domain name",
}


@pytest.fixture(scope="module")
def policies(project_root):
    found = {path.name: json.loads(path.read_text()) for path in (project_root / "deploy" / "iam").glob("*.json")}
    assert set(found) == CODE | TENANTS | INGESTION | NEVER_CALLED_BY_CODE
    return found


def as_list(value):
    return value if isinstance(value, list) else [value]


def statements(policies, names):
    return [(name, statement) for name in sorted(names) for statement in policies[name]["Statement"]]


def granted(policies, names):
    return {
        action
        for _, statement in statements(policies, names)
        if statement["Effect"] == "Allow"
        for action in as_list(statement["Action"])
    }


def sources(project_root):
    """What runs in Airflow, by place."""
    files = [
        path
        for room in ("dags", "include", "plugins")
        for path in sorted((project_root / room).rglob("*.py"))
        if not path.is_relative_to(project_root / "include" / "local")
    ]
    return {str(path.relative_to(project_root)): path.read_text() for path in files}


def moves_tenants(place):
    return "tenants" in place.split("/")[:-1]


def ingests(place):
    return "ingestion" in place.split("/")[:-1]


@pytest.fixture(scope="module")
def calls(project_root):
    found = scan(
        {
            place: text
            for place, text in sources(project_root).items()
            if not moves_tenants(place) and not ingests(place)
        }
    )
    assert len(found.actions) > 10
    return found


@pytest.fixture(scope="module")
def tenant_calls(project_root):
    found = scan(
        {place: text for place, text in sources(project_root).items() if moves_tenants(place) and place != LAMBDA}
    )
    assert len(found.actions) > 50
    return found


@pytest.fixture(scope="module")
def intake_calls(project_root):
    shared = {"include/tenants/transactions.py"}
    found = scan({place: text for place, text in sources(project_root).items() if ingests(place) or place in shared})
    assert len(found.actions) > 20
    return found


def test_every_aws_call_can_be_told(calls, tenant_calls, intake_calls):
    assert calls.unknown == []
    assert tenant_calls.unknown == []
    assert intake_calls.unknown == []


def test_every_aws_call_is_granted(calls, tenant_calls, intake_calls, policies):
    for found, names in ((calls, CODE), (tenant_calls, TENANTS), (intake_calls, INGESTION)):
        missing = set(found.actions) - granted(policies, names)
        assert not missing, {each: sorted(found.actions[each]) for each in missing}


def test_nothing_is_granted_that_no_code_calls(calls, tenant_calls, intake_calls, policies):
    assert granted(policies, CODE) == set(calls.actions) | set(NOT_FROM_CODE)
    assert granted(policies, TENANTS) == set(tenant_calls.actions) | set(NOT_FROM_TENANTS_CODE)
    assert granted(policies, INGESTION) == set(intake_calls.actions) | set(NOT_FROM_INTAKE_CODE)


def test_calls_that_hide_behind_another_function_are_found(tenant_calls):
    """Else a scan that finds too little would pass."""
    for action, place in {
        "dynamodb:ConditionCheckItem": "transactions",
        "dynamodb:GetRecords": "triggers",
        "cognito-idp:AdminDisableUser": "identity",
        "cognito-idp:StartUserImportJob": "user_import",
        "apigateway:PATCH": "configuration",
        "iam:ListAttachedRolePolicies": "isolation",
        "cloudwatch:PutMetricAlarm": "observability",
        "s3:GetBucketObjectLockConfiguration": "archive",
    }.items():
        assert any(place in each for each in tenant_calls.actions[action]), action


def test_what_the_intake_calls_is_found_where_it_is(intake_calls):
    """Else a scan that finds too little would pass."""
    for action, place in {
        "sqs:GetQueueAttributes": "triggers",
        "sqs:DeleteMessage": "receive",
        "s3:ListBucketVersions": "intake",
        "s3:PutObject": "publish",
        "kinesis:GetRecords": "kinesis",
        "dynamodb:ConditionCheckItem": "transactions",
        "glue:BatchCreatePartition": "security_lake",
        "securitylake:CreateCustomLogSource": "security_lake",
    }.items():
        assert any(place in each for each in intake_calls.actions[action]), action


def test_the_intakes_prefixes_are_those_that_the_code_writes(policies):
    from include.ingestion import dead_letters, kinesis, receive

    [resources] = [
        s["Resource"] for _, s in statements(policies, {"ingestion.json"}) if s["Sid"] == "KeepWhatIsTheIntakesOwn"
    ]
    prefixes = {resource.removeprefix("arn:aws:s3:::<INGESTION_BUCKET>/").removesuffix("/*") for resource in resources}
    written = (dead_letters.PREFIX, dead_letters.REFUSED_PREFIX, dead_letters.REPLAY_PREFIX, kinesis.LANDING_PREFIX)
    assert prefixes == set(written)
    assert receive.NOTICES_PREFIX.startswith(f"{dead_letters.PREFIX}/")


def test_the_intake_never_writes_to_raw_buckets(policies):
    writing = re.compile("s3:(Put|Delete|Abort)")
    for _, statement in statements(policies, INGESTION):
        if any("<RAW_BUCKET>" in each for each in as_list(statement["Resource"])):
            assert not [action for action in as_list(statement["Action"]) if writing.match(action)]


def test_the_function_of_the_user_migration_may_do_what_it_calls(project_root):
    stack = json.loads((project_root / "deploy" / "tenants" / "stack.json").read_text())["Resources"]
    [policy] = stack["UserMigrationRole"]["Properties"]["Policies"]
    allowed = {action for statement in policy["PolicyDocument"]["Statement"] for action in as_list(statement["Action"])}
    found = scan({LAMBDA: (project_root / LAMBDA).read_text()})
    assert found.unknown == []
    assert allowed == {*found.actions, "logs:CreateLogStream", "logs:PutLogEvents"}


def test_nobody_who_moves_tenants_may_delete_evidence(policies):
    [denied] = [s for _, s in statements(policies, TENANTS) if s["Effect"] == "Deny"]
    evidence = "arn:aws:s3:::<EVIDENCE_BUCKET>"
    assert {"s3:DeleteObject", "s3:DeleteObjectVersion", "s3:DeleteBucket"} <= set(denied["Action"])
    assert set(denied["Resource"]) == {evidence, f"{evidence}/tenants/*"}
    assert not [action for action in granted(policies, TENANTS) if action.startswith("s3:Delete")]


def test_what_the_scan_knows_best_is_among_what_it_finds(calls):
    """Else a scan that finds too little would pass."""
    expected = {
        *("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket", "sns:Publish", "airflow:InvokeRestApi"),
        *("redshift-data:ExecuteStatement", "redshift-data:BatchExecuteStatement", "redshift-data:CancelStatement"),
        *("rds:DescribeIntegrations", "redshift-serverless:GetCredentials", "datazone:PostLineageEvent"),
    }
    assert expected <= set(calls.actions)


def test_the_zero_etl_watch_and_lineage_are_each_found_where_they_are(calls):
    assert any("zero_etl/hook" in place for place in calls.actions["rds:DescribeIntegrations"])
    assert any("lineage/transport" in place for place in calls.actions["datazone:PostLineageEvent"])


@pytest.mark.parametrize(
    ("source", "finding"),
    [
        ("import boto3\nboto3.client(name).send_message()", "a service that is no literal"),
        ("from airflow.providers.amazon.aws.hooks.sqs import SqsHook", "imports SqsHook of the Amazon provider"),
        ("from airflow.providers.common.messaging.triggers import x", "imports airflow.providers.common.messaging"),
        ("import boto3\nclient = boto3.client('s3')\ngetattr(client, name)()", "a name that is no literal"),
        ("import boto3\nbucket = boto3.client('s3')\nbucket.delete_object()", "may be a call of s3"),
        ("import s3fs", "whose calls can't be told"),
    ],
)
def test_a_call_that_can_not_be_told_is_a_finding(source, finding):
    assert [each for each in scan({"m.py": source}).unknown if finding in each]


@pytest.mark.parametrize(
    ("source", "action"),
    [
        ("import boto3\nclient = boto3.client('sqs')\nclient.send_message()", "sqs:SendMessage"),
        ("import boto3\nclient = boto3.client('s3')\nclient.get_paginator('list_objects_v2')", "s3:ListBucket"),
        ("hook = AwsGenericHook(client_type='datazone')\nself.call('search')", "datazone:Search"),
        ("client = S3Hook().get_conn()\nclient.head_object()", "s3:GetObject"),
        ("AWS_ACTIONS = ('kms:Sign',)", "kms:Sign"),
        (f"{CLIENTS}p.clients.dynamodb.put_item()", "dynamodb:PutItem"),
        (f"{CLIENTS}self._dynamodb.transact_write_items()", "dynamodb:ConditionCheckItem"),
        (f"{CLIENTS}insist(partial(dynamodb.query, **query))", "dynamodb:Query"),
        (f"{CLIENTS}dynamodb.get_paginator('list_tables')", "dynamodb:ListTables"),
        (f"{CLIENTS}patiently(p, p.clients.cognito.create_group)", "cognito-idp:CreateGroup"),
        (f"{CLIENTS}p.clients.apigateway.update_usage_plan()", "apigateway:PATCH"),
        (f"{CLIENTS}cloudwatch.delete_alarms()", "cloudwatch:DeleteAlarms"),
    ],
)
def test_a_call_of_any_service_is_found(source, action):
    assert action in scan({"m.py": source}).actions


def test_dbt_logs_in_with_what_is_granted(policies):
    """redshift_connector is dbt's driver; a new version that asks AWS for more fails here."""
    environment = load_settings().warehouse_venv
    [helper] = environment.glob("lib/python3.*/site-packages/redshift_connector/iam_helper.py")
    known = operations("redshift") | operations("redshift-serverless")
    asked = {
        node.attr
        for node in ast.walk(ast.parse(helper.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "client" and node.attr in known
    }
    assert asked == CONNECTOR | set(CONNECTOR_NEVER)
    needed = {
        f"{'redshift-serverless' if name == 'get_credentials' else 'redshift'}:{known[name]}" for name in CONNECTOR
    }
    assert needed <= granted(policies, CODE)


def test_mwaa_gets_what_its_documentation_lists(policies):
    found = {
        action for _, statement in statements(policies, {"environment.json"}) for action in as_list(statement["Action"])
    }
    assert found == ENVIRONMENT


def test_no_action_is_a_wildcard_but_mwaas_own(policies):
    for name, statement in statements(policies, policies):
        for action in as_list(statement["Action"]):
            service, _, operation = action.partition(":")
            assert service
            assert operation
            assert operation != "*"
            assert "*" not in action or action in ENVIRONMENT, f"{name}: {action}"
            assert "NotAction" not in statement


def test_every_resource_is_as_narrow_as_the_service_allows(policies):
    for name, statement in statements(policies, set(policies) - {"trust.json"}):
        resources = as_list(statement.get("Resource", []))
        if "*" in resources:
            for action in as_list(statement["Action"]):
                assert any(fnmatchcase(action, known) for known in NO_RESOURCE_LEVEL), (
                    f"{name}: {action} on every resource, without a reason"
                )
        if "NotResource" in statement:
            assert statement["Condition"], f"{name}: {statement['Sid']}"
            assert {action.partition(":")[0] for action in as_list(statement["Action"])} == {"kms"}
        for resource in resources:
            parts = resource.split(":", 5)
            assert resource == "*" or (len(parts) == 6 and parts[:2] == ["arn", "aws"]), f"{name}: {resource}"
            assert resource == "*" or not re.fullmatch(r"\*|[a-z-]+[:/]\*", parts[5]), (
                f"{name}: {resource} is every one of its kind"
            )
            if resource != "*" and parts[2] not in {"s3", "sqs", "apigateway", "iam"}:
                assert parts[3:5] == ["<REGION>", "<ACCOUNT>"], f"{name}: {resource}"


def test_every_reason_is_still_needed(policies):
    everywhere = {
        action
        for _, statement in statements(policies, set(policies) - {"trust.json"})
        if "*" in as_list(statement.get("Resource", []))
        for action in as_list(statement["Action"])
    }
    for known in NO_RESOURCE_LEVEL:
        assert any(fnmatchcase(action, known) for action in everywhere), known


def test_the_buckets_prefixes_are_those_that_the_code_writes(policies):
    from include.local.mwaa.options import LINEAGE_PREFIX
    from include.quality import evidence
    from include.spark import placement
    from include.warehouse import docs, run_state

    [resources] = [
        s["Resource"] for _, s in statements(policies, {"platform.json"}) if s["Sid"] == "ReadAndWriteRunState"
    ]
    prefixes = {resource.removeprefix("arn:aws:s3:::<BUCKET>/").removesuffix("/*") for resource in resources}
    [manifests] = set(re.findall(r'f"(dbt-manifests)/', Path(run_state.__file__).read_text()))
    assert prefixes == {
        run_state.PREFIX,
        manifests,
        docs.KEY.split("/")[0],
        evidence.PREFIX,
        LINEAGE_PREFIX,
        placement.PREFIX,
    }


def test_only_what_the_code_removes_may_be_removed(calls, policies):
    """So nobody who has the role's credentials can empty the spool or the evidence."""
    from include.catalog import spool
    from include.local.mwaa.options import LINEAGE_PREFIX
    from include.quality.held import HeldStore

    [resources] = [
        s["Resource"] for _, s in statements(policies, {"platform.json"}) if s["Action"] == "s3:DeleteObject"
    ]
    held = HeldStore(client=None, bucket="", area="*").key
    assert set(resources) == {
        f"arn:aws:s3:::<BUCKET>/{key}" for key in (held, f"{LINEAGE_PREFIX}/{spool.NEW_REJECTS}/*")
    }
    places = {place.partition(":")[0] for place in calls.actions["s3:DeleteObject"]}
    assert places == {"include/quality/held.py", "plugins/data_platform/lineage/store.py"}


def test_every_policy_fits_into_a_managed_policy(policies):
    """https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html: 6,144 characters without white space."""
    for name, policy in policies.items():
        assert len(json.dumps(policy, separators=(",", ":"))) < 6144, name
        assert policy["Version"] == "2012-10-17"
        sids = [statement["Sid"] for statement in policy["Statement"]]
        assert len(set(sids)) == len(sids)
        assert all(re.fullmatch(r"[A-Za-z0-9]+", sid) for sid in sids)


def test_every_placeholder_and_policy_is_documented(project_root, policies):
    text = (project_root / "deploy" / "iam" / "README.md").read_text()
    used = {each for policy in policies.values() for each in re.findall(r"<[A-Z_]+>", json.dumps(policy))}
    assert set(re.findall(r"^\| `(<[A-Z_]+>)` \|", text, re.MULTILINE)) == used
    assert set(re.findall(r"^\| `([\w-]+\.json)` \|", text, re.MULTILINE)) == set(policies)


def test_only_mwaa_of_this_account_may_take_the_role(policies):
    [statement] = policies["trust.json"]["Statement"]
    assert statement["Principal"] == {"Service": ["airflow.amazonaws.com", "airflow-env.amazonaws.com"]}
    assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": "<ACCOUNT>"}
