from __future__ import annotations

import time

import pytest
from botocore.exceptions import ClientError

from include.local.aws.pipeline import behave, make_pipeline
from include.local.aws.trial import trial_aws
from include.local.saas.clients import clients_at
from include.local.saas.stacks import log_groups
from include.local.saas.tables import make_shared_tables
from include.tenants.saas import PIPELINE, STACKS


@pytest.fixture(scope="module")
def clients():
    with trial_aws() as url:
        clients = clients_at(url)
        make_shared_tables(clients.dynamodb)
        yield clients


@pytest.fixture(autouse=True)
def pipeline(clients):
    make_pipeline(clients, "http://127.0.0.1:4570")
    yield
    behave(clients, seconds="0", fails="false")


def want_stack(clients, tenant_id):
    clients.dynamodb.put_item(
        TableName=STACKS, Item={"tenantId": {"S": tenant_id}, "stackName": {"S": f"stack-{tenant_id}"}}
    )


def start(clients):
    return clients.codepipeline.start_pipeline_execution(name=PIPELINE)["pipelineExecutionId"]


def status(clients, execution_id):
    return clients.codepipeline.get_pipeline_execution(pipelineName=PIPELINE, pipelineExecutionId=execution_id)[
        "pipelineExecution"
    ]["status"]


def wait(clients, execution_id):
    for _ in range(600):
        if (found := status(clients, execution_id)) != "InProgress":
            return found
        time.sleep(0.05)
    raise AssertionError("the execution did not end")


def stacks(clients):
    return {stack["StackName"] for stack in clients.cloudformation.describe_stacks()["Stacks"]}


def tables(clients):
    return set(clients.dynamodb.list_tables()["TableNames"])


def test_makes_the_stack_of_each_tenant_in_the_mapping(clients):
    want_stack(clients, "first")
    want_stack(clients, "second")

    assert wait(clients, start(clients)) == "Succeeded"

    assert {"stack-first", "stack-second"} <= stacks(clients)
    assert {"Product-first", "Order-first", "Product-second", "Order-second"} <= tables(clients)
    (stack,) = clients.cloudformation.describe_stacks(StackName="stack-second")["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    assert outputs["ApiGatewayUrl"] == "http://127.0.0.1:4570/second"
    assert clients.apigateway.get_stages(restApiId=outputs["ApiGatewayId"])["item"]


def test_leaves_a_stack_that_is_there(clients):
    want_stack(clients, "again")
    wait(clients, start(clients))
    (before,) = clients.cloudformation.describe_stacks(StackName="stack-again")["Stacks"]

    assert wait(clients, start(clients)) == "Succeeded"

    (after,) = clients.cloudformation.describe_stacks(StackName="stack-again")["Stacks"]
    assert after["StackId"] == before["StackId"]


def test_the_same_token_starts_nothing_again(clients):
    first, again, other = (
        clients.codepipeline.start_pipeline_execution(name=PIPELINE, clientRequestToken=token)["pipelineExecutionId"]
        for token in ("one", "one", "two")
    )

    assert first == again != other
    summaries = clients.codepipeline.list_pipeline_executions(pipelineName=PIPELINE)["pipelineExecutionSummaries"]
    assert [each["pipelineExecutionId"] for each in summaries].count(first) == 1


def test_several_executions_at_once_make_each_stack_once(clients):
    want_stack(clients, "hasty")

    executions = [start(clients) for _ in range(4)]

    assert [wait(clients, each) for each in executions] == ["Succeeded"] * 4
    assert "stack-hasty" in stacks(clients)


def test_is_in_progress_as_long_as_it_was_told(clients):
    behave(clients, seconds="600")

    execution = start(clients)

    assert status(clients, execution) == "InProgress"
    states = clients.codepipeline.get_pipeline_state(name=PIPELINE)["stageStates"]
    assert [state["latestExecution"] for state in states] == [
        {"pipelineExecutionId": execution, "status": "InProgress"}
    ] * 3


def test_fails_when_it_was_told_so(clients):
    want_stack(clients, "unlucky")
    behave(clients, fails="true")

    assert wait(clients, start(clients)) == "Failed"

    assert "stack-unlucky" not in stacks(clients)
    assert "Product-unlucky" not in tables(clients)


def test_a_deleted_stack_takes_everything_with_it_that_it_made(clients):
    want_stack(clients, "leaving")
    want_stack(clients, "staying")
    wait(clients, start(clients))
    apis = {api["name"] for api in clients.apigateway.get_rest_apis()["items"]}
    assert {"stack-leaving-api", "stack-staying-api"} <= apis

    clients.cloudformation.delete_stack(StackName="stack-leaving")

    with pytest.raises(ClientError, match="does not exist"):
        clients.cloudformation.describe_stacks(StackName="stack-leaving")
    assert not {"Product-leaving", "Order-leaving"} & tables(clients)
    assert {"Product-staying", "Order-staying"} <= tables(clients)
    assert {api["name"] for api in clients.apigateway.get_rest_apis()["items"]} == apis - {"stack-leaving-api"}
    groups = {group["logGroupName"] for group in clients.logs.describe_log_groups()["logGroups"]}
    assert not groups & set(log_groups("stack-leaving"))
    assert set(log_groups("stack-staying")) <= groups


def test_a_protected_table_keeps_its_stack(clients):
    want_stack(clients, "guarded")
    wait(clients, start(clients))
    clients.dynamodb.update_table(TableName="Order-guarded", DeletionProtectionEnabled=True)

    clients.cloudformation.delete_stack(StackName="stack-guarded")

    (stack,) = clients.cloudformation.describe_stacks(StackName="stack-guarded")["Stacks"]
    assert stack["StackStatus"] == "DELETE_FAILED"
    assert {"Product-guarded", "Order-guarded"} <= tables(clients)
