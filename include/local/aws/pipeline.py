"""The application's deployment pipeline, which makes the stack of each tenant that has a row in the stack mapping and no stack yet.

Moto starts an execution and calls it done at once. Here it is InProgress while a thread makes the stacks, as the pipeline's build does:
tables, REST API, log groups, and a CloudFormation stack whose outputs tell where the API is. DeleteStack removes all that again, unless a
table is protected: then it is DELETE_FAILED, as on AWS.

How it behaves is set by tags of the pipeline (`make_pipeline`, `behave`), so that a test needs no other door: ``saas-url``,
where tenants' APIs answer; ``seconds`` that an execution takes at least; ``fails``.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING, Final

from moto.cloudformation.models import CloudFormationBackend, Stack
from moto.codepipeline.models import CodePipeline, CodePipelineBackend, PipelineExecution
from moto.codepipeline.responses import CodePipelineResponse

from include.local.aws.in_process import clients_inside
from include.local.aws.wrapping import replace, wrap
from include.tenants.saas import DATA_TABLES, PIPELINE, STACKS, Tier

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.tenants.clients import Clients

SAAS_URL: Final = "http://127.0.0.1:4570"
_ROLE: Final = "serverless-saas-pipeline-role"
_STAGES: Final = ("Source", "Build", "Deploy")
_PREFIX: Final = "stack-"
_LOOK_SECONDS: Final = 0.05
"""How often an execution looks whether it has been told to take less."""
_AT_WORK: Final = threading.Lock()
"""Held while stacks are made: two executions at once would make the same ones."""


def make_pipeline(clients: Clients, saas_url: str = SAAS_URL) -> str:
    """The pipeline and its role; gives its ARN. One that is there stays, but for the address.

    Args:
        clients: of the stand-in.
        saas_url: where the application answers, without a path.
    """
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "codepipeline.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
    with contextlib.suppress(clients.iam.exceptions.EntityAlreadyExistsException):
        clients.iam.create_role(RoleName=_ROLE, AssumeRolePolicyDocument=json.dumps(trust))
    pipelines = clients.codepipeline
    if PIPELINE not in {
        each["name"] for page in pipelines.get_paginator("list_pipelines").paginate() for each in page["pipelines"]
    }:
        owner = {"category": "Build", "owner": "AWS", "provider": "CodeBuild", "version": "1"}
        pipelines.create_pipeline(
            pipeline={
                "name": PIPELINE,
                "roleArn": clients.iam.get_role(RoleName=_ROLE)["Role"]["Arn"],
                "artifactStore": {"type": "S3", "location": "serverless-saas-artifacts"},
                "stages": [{"name": name, "actions": [{"name": name, "actionTypeId": owner}]} for name in _STAGES],
            }
        )
    return behave(clients, **{"saas-url": saas_url})


def behave(clients: Clients, **how: str) -> str:
    """Set how the pipeline behaves, by its tags (see above); gives its ARN."""
    arn: str = clients.codepipeline.get_pipeline(name=PIPELINE)["metadata"]["pipelineArn"]
    clients.codepipeline.tag_resource(
        resourceArn=arn, tags=[{"key": key, "value": value} for key, value in how.items()]
    )
    return arn


def install() -> None:
    """Make moto behave so; a second call changes nothing."""
    wrap(CodePipelineBackend, "start_pipeline_execution", _starting)
    wrap(CodePipelineResponse, "start_pipeline_execution", _once_per_token)
    replace(CodePipelineResponse, "get_pipeline_state", _get_pipeline_state)
    wrap(CloudFormationBackend, "delete_stack", _deleting)


def _starting(start: Callable[..., str]) -> Callable[..., str]:
    def started(self: CodePipelineBackend, name: str, variables: list[dict[str, str]] | None) -> str:
        execution_id = start(self, name, variables)
        pipeline = self.pipelines[name]
        if name == PIPELINE:
            execution = pipeline.executions[execution_id]
            execution.status = "InProgress"
            threading.Thread(target=_run, args=(execution, pipeline), name="pipeline", daemon=True).start()
        return execution_id

    return started


def _once_per_token(start: Callable[[CodePipelineResponse], str]) -> Callable[[CodePipelineResponse], str]:
    """The same token starts nothing again and gives the same answer."""

    def started(self: CodePipelineResponse) -> str:
        pipeline = self.codepipeline_backend.pipelines.get(self._get_param("name"))
        token = self._get_param("clientRequestToken")
        if pipeline is None or token is None:
            return start(self)
        answers: dict[str, str] = pipeline.__dict__.setdefault("answers", {})
        if token not in answers:
            answers[token] = start(self)
        return answers[token]

    return started


def _run(execution: PipelineExecution, pipeline: CodePipeline) -> None:
    began = time.monotonic()
    try:
        if pipeline.tags.get("fails") == "true":
            raise RuntimeError("the pipeline was told to fail")
        with _AT_WORK:
            _make_stacks(clients_inside(), pipeline.tags.get("saas-url", SAAS_URL))
        while time.monotonic() < began + float(pipeline.tags.get("seconds", "0")):
            time.sleep(_LOOK_SECONDS)
    except Exception as error:
        execution.status_summary = str(error)
        execution.status = "Failed"
    else:
        execution.status = "Succeeded"


def _make_stacks(clients: Clients, saas_url: str) -> None:
    for page in clients.dynamodb.get_paginator("scan").paginate(TableName=STACKS, ConsistentRead=True):
        for row in page["Items"]:
            _make_stack(clients, row["tenantId"]["S"], row["stackName"]["S"], saas_url)


def _make_stack(clients: Clients, owner: str, stack: str, saas_url: str) -> None:
    from botocore.exceptions import ClientError

    from include.local.saas.stacks import STACK_ROLE, log_groups, make_api
    from include.local.saas.tables import make_data_tables

    try:
        clients.cloudformation.describe_stacks(StackName=stack)
    except ClientError:
        pass
    else:
        return
    make_data_tables(clients.dynamodb, owner)
    api_id = make_api(clients, stack)
    for name in log_groups(stack):
        try:
            clients.logs.create_log_group(logGroupName=name)
        except clients.logs.exceptions.ResourceAlreadyExistsException:
            continue
    outputs = {"ApiGatewayUrl": {"Value": f"{saas_url}/{owner}"}, "ApiGatewayId": {"Value": api_id}}
    clients.cloudformation.create_stack(
        StackName=stack,
        TemplateBody=json.dumps({"Resources": {}, "Outputs": outputs}),
        RoleARN=STACK_ROLE,
        Tags=[{"Key": "application", "Value": "serverless-saas"}, {"Key": "TenantId", "Value": owner}],
    )


def _get_pipeline_state(self: CodePipelineResponse) -> str:
    pipeline, metadata = self.codepipeline_backend.get_pipeline(self._get_param("name"))
    executions = list(self.codepipeline_backend.pipelines[pipeline["name"]].executions.values())
    latest = (
        {"pipelineExecutionId": executions[-1].pipeline_execution_id, "status": executions[-1].status}
        if executions
        else None
    )
    states = [
        {
            "stageName": stage["name"],
            "inboundExecutions": [],
            "actionStates": [],
            **({"latestExecution": latest} if latest else {}),
        }
        for stage in pipeline["stages"]
    ]
    return json.dumps(
        {"pipelineName": pipeline["name"], "pipelineVersion": pipeline["version"], "stageStates": states, **metadata}
    )


def _deleting(delete: Callable[..., None]) -> Callable[..., None]:
    def deleted(self: CloudFormationBackend, name_or_stack_id: str) -> None:
        for stack in list(self.stacks.values()):
            if name_or_stack_id in (stack.name, stack.stack_id) and not _remove_what_it_made(stack):
                stack.status = "DELETE_FAILED"
                return
        delete(self, name_or_stack_id)

    return deleted


def _remove_what_it_made(stack: Stack) -> bool:
    """Remove a tenant's resources; whether they could be. The server's lock is held: this goes past the APIs."""
    from moto.apigateway.models import apigateway_backends
    from moto.dynamodb.models import dynamodb_backends
    from moto.logs.models import logs_backends

    from include.local.saas.stacks import log_groups

    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.outputs or []}
    if not stack.name.startswith(_PREFIX) or "ApiGatewayId" not in outputs:
        return True
    account, region = stack.account_id, stack.region_name
    dynamodb, gateway = dynamodb_backends[account][region], apigateway_backends[account][region]
    names = [table.name(stack.name.removeprefix(_PREFIX), Tier.PLATINUM) for table in DATA_TABLES]
    if any(dynamodb.tables[name].deletion_protection_enabled for name in names if name in dynamodb.tables):
        return False
    for name in names:
        if name in dynamodb.tables:
            dynamodb.delete_table(name)
    gateway.apis.pop(outputs["ApiGatewayId"], None)
    for name in log_groups(stack.name):
        logs_backends[account][region].groups.pop(name, None)
    return True
