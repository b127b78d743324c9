from __future__ import annotations

import itertools

import pytest

from include.local.saas.stacks import watch
from include.tenants.observability import differences, mirror, unwatch, watch_of
from include.tenants.saas import STACKS

_NUMBER = itertools.count()
GROUP = "/aws/api-gateway/{}-access"


@pytest.fixture
def stacks(portability):
    """Two stacks of the test's own, the second one without anything."""
    number = next(_NUMBER)
    names = f"stack-obs-{number}x", f"stack-obs-{number}y"
    watch(portability.clients, names[0])
    return names


def test_the_targets_watch_is_the_sources_with_the_stacks_name_exchanged(portability, stacks):
    source, target = stacks
    found = mirror(portability, source, target)
    assert (found["log_groups"], found["metric_filters"], found["alarms"], found["differences"]) == (3, 3, 2, [])
    watched = watch_of(portability, target)
    assert watched.groups[GROUP.format(target)] == {"retentionInDays": 30, "kmsKeyId": None}
    assert watched.filters[GROUP.format(target), f"{target}-5xx"] == {
        "filterPattern": "{ $.status = 5* }",
        "metricTransformations": [
            {"metricName": f"{target}-5xx", "metricNamespace": "ServerlessSaaS", "metricValue": "1"}
        ],
    }
    alarm = watched.alarms[f"{target}-latency"]
    assert (alarm["ExtendedStatistic"], alarm["Threshold"], alarm["EvaluationPeriods"]) == ("p99", 1000.0, 3)
    assert alarm["AlarmDescription"] == f"latency of the API of {target}"
    assert source not in str(watched)


def test_all_that_makes_an_alarm_is_taken_over(portability, stacks):
    source, target = stacks
    topic = f"arn:aws:sns:us-east-1:123456789012:{source}-people"
    portability.clients.cloudwatch.put_metric_alarm(
        AlarmName=f"{source}-math",
        ActionsEnabled=False,
        AlarmActions=[topic],
        EvaluationPeriods=5,
        DatapointsToAlarm=3,
        Threshold=0.5,
        ComparisonOperator="LessThanThreshold",
        TreatMissingData="breaching",
        Metrics=[
            {
                "Id": "m1",
                "MetricStat": {
                    "Metric": {
                        "Namespace": "ServerlessSaaS",
                        "MetricName": f"{source}-4xx",
                        "Dimensions": [{"Name": "Stack", "Value": source}],
                    },
                    "Period": 300,
                    "Stat": "Sum",
                },
                "ReturnData": True,
            }
        ],
    )
    mirror(portability, source, target)
    alarm = watch_of(portability, target).alarms[f"{target}-math"]
    assert alarm["AlarmActions"] == [topic]  # the same people are told
    assert alarm["ActionsEnabled"] is False
    assert alarm["DatapointsToAlarm"] == 3
    assert alarm["Metrics"][0]["MetricStat"]["Metric"]["Dimensions"] == [{"Name": "Stack", "Value": target}]
    assert differences(portability, source, target) == []


def test_done_again_nothing_changes(portability, stacks):
    mirror(portability, *stacks)
    before = watch_of(portability, stacks[1])
    mirror(portability, *stacks)
    assert watch_of(portability, stacks[1]) == before


def test_what_differs_is_mended_in_a_silo_and_named(portability, stacks):
    source, target = stacks
    mirror(portability, source, target)
    logs, cloudwatch = portability.clients.logs, portability.clients.cloudwatch
    logs.put_retention_policy(logGroupName=GROUP.format(target), retentionInDays=1)
    logs.put_metric_filter(
        logGroupName=GROUP.format(target),
        filterName=f"{target}-4xx",
        filterPattern="{ $.status = 404 }",
        metricTransformations=[
            {"metricName": f"{target}-4xx", "metricNamespace": "ServerlessSaaS", "metricValue": "1"}
        ],
    )
    cloudwatch.delete_alarms(AlarmNames=[f"{target}-5xx"])
    assert differences(portability, source, target) == [
        f"log group {GROUP.format(target)}: expected retentionInDays 30, found 1",
        f"metric filter {GROUP.format(target)} {target}-4xx: expected filterPattern '{{ $.status = 4* }}', "
        "found '{ $.status = 404 }'",
        f"alarm {target}-5xx: expected it, found none",
    ]
    assert mirror(portability, source, target)["differences"] == []


def test_nothing_of_the_pooled_stack_is_changed_but_what_it_lacks_is_made(portability, stacks):
    source, target = stacks[0], "stack-pooled"
    watch(portability.clients, target)
    cloudwatch = portability.clients.cloudwatch
    change = {"Namespace": "ServerlessSaaS", "Period": 60, "EvaluationPeriods": 1, "Statistic": "Sum"}
    how = {"ComparisonOperator": "GreaterThanThreshold", "TreatMissingData": "notBreaching"}
    for name in ("5xx", "new"):
        cloudwatch.put_metric_alarm(
            AlarmName=f"{source}-{name}", MetricName=f"{source}-{name}", Threshold=1, **change, **how
        )
    try:
        found = mirror(portability, source, target)
        assert "alarm stack-pooled-5xx: expected Threshold 1.0, found 5.0" in found["differences"]
        assert watch_of(portability, target).alarms["stack-pooled-new"]["Threshold"] == 1
    finally:
        cloudwatch.delete_alarms(AlarmNames=["stack-pooled-new"])


def test_a_stack_whose_name_begins_the_same_is_another(portability, stacks):
    source, target = stacks
    other = f"{source}-2"
    portability.clients.dynamodb.put_item(
        TableName=STACKS, Item={"tenantId": {"S": "other"}, "stackName": {"S": other}}
    )
    watch(portability.clients, other)
    assert len(watch_of(portability, source).alarms) == 2
    assert len(watch_of(portability, other).alarms) == 2
    assert mirror(portability, source, target)["alarms"] == 2
    assert unwatch(portability, source)["alarms"] == 2
    assert len(watch_of(portability, other).alarms) == 2


def test_what_cloudformation_made_is_left_to_it(portability, stacks):
    source, target = stacks
    portability.clients.cloudwatch.put_metric_alarm(
        AlarmName=f"{source}-canary",
        Namespace="AWS/Lambda",
        MetricName="Errors",
        Period=60,
        EvaluationPeriods=2,
        Threshold=0,
        Statistic="Sum",
        ComparisonOperator="GreaterThanThreshold",
        Tags=[{"Key": "aws:cloudformation:stack-name", "Value": source}],
    )
    assert mirror(portability, source, target)["alarms"] == 2
    assert f"{target}-canary" not in watch_of(portability, target).alarms
    unwatch(portability, source)
    assert list(watch_of(portability, source).alarms) == [f"{source}-canary"]


def test_logs_that_hold_events_stay(portability, stacks):
    source, _ = stacks
    portability.clients.logs.create_log_stream(logGroupName=GROUP.format(source), logStreamName="requests")
    assert unwatch(portability, source) == {"alarms": 2, "metric_filters": 3, "log_groups": 2}
    assert list(watch_of(portability, source).groups) == [GROUP.format(source)]
    assert unwatch(portability, source) == {"alarms": 0, "metric_filters": 0, "log_groups": 0}
