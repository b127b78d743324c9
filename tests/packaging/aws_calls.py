"""Find every AWS call that production code can make, without running it; whatever can't be told is a finding, not a guess.

A client is made by a hook of the Amazon provider or by boto3; where the service's name is no literal, the module must say what it calls in
``AWS_ACTIONS``. An operation is an attribute of a client, or a literal handed to something that gets the attribute by name.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from functools import cache

import botocore.session
from botocore import xform_name

HOOKS = {"AwsGenericHook": None, "S3Hook": "s3", "SnsHook": "sns", "MwaaHook": "mwaa"}
"""Hooks of the Amazon provider and the service each is for; AwsGenericHook is told by its client_type."""
HOOK_METHODS = {
    "get_conn": None,
    "get_client_type": None,
    "publish_to_target": "publish",
    "invoke_rest_api": "invoke_rest_api",
}
"""What production code may call on a hook, and the operation that it stands for."""
PROVIDERS = ("airflow.providers.standard", "airflow.providers.common.compat", "airflow.providers.openlineage")
"""Providers that call no AWS by themselves, as they are used here."""
CLIENT = re.compile(r"(^|[._])(client|s3|rds|data_api|datazone|hook)(\(\))?$")
"""How a client, or something that has one, is called in this project."""
NOT_CLIENTS = {
    "get_connection": {"BaseHook", "self"},  # Airflow's connections
    "get_data_source": {"scan._data_source_manager"},  # Soda's
}
"""What is called like an operation of AWS, and on whom it is none."""
NAMED = {
    "dynamodb": "dynamodb",
    "streams": "dynamodbstreams",
    "cognito": "cognito-idp",
    "apigateway": "apigateway",
    "codepipeline": "codepipeline",
    "cloudformation": "cloudformation",
    "iam": "iam",
    "logs": "logs",
    "cloudwatch": "cloudwatch",
    "kms": "kms",
    "sqs": "sqs",
    "kinesis": "kinesis",
    "glue": "glue",
    "securitylake": "securitylake",
}
"""Services of clients that are called by these names: attributes of include.tenants.clients.Clients or include.ingestion.intake.Intake, or
variables."""
# A HEAD is a GET to IAM; a list is of the bucket; the lock of a bucket is named differently; parts of an object are the object.
S3_ACTIONS = {
    "HeadObject": "GetObject",
    "ListObjectsV2": "ListBucket",
    "ListObjectVersions": "ListBucketVersions",
    "GetObjectLockConfiguration": "GetBucketObjectLockConfiguration",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
}
SQS_ACTIONS = {
    "DeleteMessageBatch": "DeleteMessage",
    "ChangeMessageVisibilityBatch": "ChangeMessageVisibility",
}
RENAMED = {"s3": S3_ACTIONS, "sqs": SQS_ACTIONS}
"""Operations that IAM knows by another name."""
IAM_PREFIXES = {"monitoring": "cloudwatch"}
"""Where IAM's name of a service is not the one that requests are signed with."""
TRANSACTION = ("PutItem", "UpdateItem", "DeleteItem", "ConditionCheckItem")
"""A transaction is authorized by the action of each of its elements."""


@cache
def operations(service):
    """Python's name of each operation to AWS's."""
    model = botocore.session.get_session().get_service_model(service)
    return {xform_name(name): name for name in model.operation_names}


@cache
def prefix(service):
    return botocore.session.get_session().get_service_model(service).signing_name


def actions(service, operation):
    name = operations(service)[operation]
    named = IAM_PREFIXES.get(prefix(service), prefix(service))
    if service == "apigateway":  # authorized by the HTTP method
        model = botocore.session.get_session().get_service_model(service)
        return [f"{named}:{model.operation_model(name).http['method']}"]
    if name == "TransactWriteItems":
        return [f"{named}:{each}" for each in TRANSACTION]
    return [f"{named}:{RENAMED.get(service, {}).get(name, name)}"]


def named_service(receiver):
    """The service of a client by its name; None if the name tells none."""
    return NAMED.get(receiver.rpartition(".")[2].lstrip("_"))


@dataclass
class Calls:
    """What was found.

    Attributes:
        actions: IAM action to the places that need it.
        unknown: what a person has to look at.
    """

    actions: dict[str, set[str]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def add(self, action, place):
        self.actions.setdefault(action, set()).add(place)


def services_of(tree):
    """Services that a module makes clients of; None among them for one that is no literal."""
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        if HOOKS.get(name):
            found.add(HOOKS[name])
        elif name == "AwsGenericHook":
            found.add(literal(given.get("client_type")))
        elif name == "client" and isinstance(node.func, ast.Attribute) and (node.args or "service_name" in given):
            found.add(literal(given.get("service_name", node.args[0] if node.args else None)))
        elif name == "_client" and len(node.args) == 1:  # ZeroEtlHook's own
            found.add(literal(node.args[0]))
    return found


def literal(node):
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def declared(tree):
    """``AWS_ACTIONS`` of a module; None if it has none."""
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == "AWS_ACTIONS" for target in targets):
            return set(ast.literal_eval(node.value))
    return None


def scan(sources):
    """Scan ``{place: source text}``."""
    trees = {place: ast.parse(text) for place, text in sources.items()}
    calls = Calls()
    services = set()
    for place, tree in trees.items():
        found = services_of(tree)
        services |= found - {None}
        own = declared(tree)
        for each in own or ():
            calls.add(each, place)
        if None in found and own is None and not any(found - {None}):
            calls.unknown.append(
                f"{place}: makes a client of a service that is no literal; declare AWS_ACTIONS in the module"
            )
        _imports(place, tree, calls)
    functions = {
        node.name
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    for place, tree in trees.items():
        _operations(place, tree, sorted(services), functions, declared(tree), calls)
    return calls


def _imports(place, tree, calls):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("airflow.providers."):
            if node.module.startswith("airflow.providers.amazon."):
                for alias in node.names:
                    if alias.name not in HOOKS:
                        calls.unknown.append(
                            f"{place}: imports {alias.name} of the Amazon provider; add what it calls to aws_calls.HOOKS"
                        )
            elif not node.module.startswith(PROVIDERS):
                calls.unknown.append(
                    f"{place}: imports {node.module}; if it calls no AWS, add it to aws_calls.PROVIDERS"
                )
        names = (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        for name in names:
            if name.partition(".")[0] in {"aiobotocore", "aioboto3", "s3fs", "smart_open", "awswrangler"}:
                calls.unknown.append(f"{place}: imports {name}, whose calls can't be told")


def _operations(place, tree, services, functions, own, calls):
    named = False
    dynamic = False
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            _attribute(place, node, services, functions, calls)
        if not isinstance(node, ast.Call):
            continue
        first = literal(node.args[0]) if node.args else None
        if first:
            matching = [service for service in services if first in operations(service)]
            service = named_service(ast.unparse(getattr(node.func, "value", node.func)))
            matching = [service] if service in matching else matching
            if matching and getattr(node.func, "attr", getattr(node.func, "id", "")) in {
                "call",
                "_call",
                "get_paginator",
                "get_waiter",
            }:
                named = True
                _one(place, first, matching, calls)
        dynamic = dynamic or _is_dynamic(node)
    if dynamic and not named and own is None:
        calls.unknown.append(
            f"{place}: gets an operation by a name that is no literal; declare AWS_ACTIONS in the module"
        )


def _is_dynamic(node):
    """``getattr(client, name)``, or ``getattr(anything, name)(…)`` in a module that makes clients or is given them."""
    if isinstance(node.func, ast.Name) and node.func.id == "getattr":
        return literal(node.args[1]) is None and CLIENT.search(ast.unparse(node.args[0])) is not None
    if isinstance(node.func, ast.Call) and isinstance(node.func.func, ast.Name) and node.func.func.id == "getattr":
        return literal(node.func.args[1]) is None and ast.unparse(node.func.args[0]) != "exceptions"
    return False


def _attribute(place, node, services, functions, calls):
    receiver = ast.unparse(node.value)
    operation = HOOK_METHODS.get(node.attr) or node.attr
    matching = [service for service in services if operation in operations(service)]
    if not matching:
        return
    hook = isinstance(node.value, ast.Call) and getattr(node.value.func, "id", None) in HOOKS
    if named_service(receiver) in matching:
        _one(place, operation, [named_service(receiver)], calls)
    elif CLIENT.search(receiver) or hook:
        _one(place, operation, matching, calls)
    elif (
        node.attr in functions
        or receiver in NOT_CLIENTS.get(node.attr, ())
        or receiver == "re"
        or receiver.rpartition(".")[2].strip("_").isupper()
    ):
        return  # this project's own function, or a regular expression
    else:
        calls.unknown.append(
            f"{place}:{node.lineno}: {receiver}.{node.attr} may be a call of {', '.join(matching)}; name the receiver as a client"
        )


def _one(place, operation, matching, calls):
    if len(matching) > 1:
        calls.unknown.append(
            f"{place}: {operation} is an operation of {', '.join(matching)}; declare AWS_ACTIONS in the module"
        )
    else:
        for action in actions(matching[0], operation):
            calls.add(action, place)
