"""Log groups, metric filters and alarms: the target's stack is watched as the source's was.

Their names have the stack's name in them; that part is exchanged, and all else stays. What CloudFormation made with a stack is left to
CloudFormation: the target's stack has its own from the same template.

The pooled stack is every pooled tenant's. So what it lacks is made there, but nothing of it is changed: a difference is told.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from include.tenants.saas import POOLED, STACKS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.tenants.portability import Portability

_OF_A_STACK: Final = "aws:cloudformation:stack-name"
_FILTER: Final = ("filterPattern", "metricTransformations", "applyOnTransformedLogs", "fieldSelectionCriteria")
_ALARM: Final = (
    "AlarmName",
    "AlarmDescription",
    "ActionsEnabled",
    "OKActions",
    "AlarmActions",
    "InsufficientDataActions",
    "MetricName",
    "Namespace",
    "Statistic",
    "ExtendedStatistic",
    "Dimensions",
    "Period",
    "Unit",
    "EvaluationPeriods",
    "DatapointsToAlarm",
    "Threshold",
    "ComparisonOperator",
    "TreatMissingData",
    "EvaluateLowSampleCountPercentile",
    "Metrics",
    "ThresholdMetricId",
)
"""What makes an alarm what it is; the rest of what CloudWatch tells is its state."""
_ACTIONS: Final = frozenset({"OKActions", "AlarmActions", "InsufficientDataActions"})
"""Whom an alarm tells stays the same."""


@dataclass(frozen=True)
class Watch:
    """What watches a stack.

    Attributes:
        groups: retention in days (None: for ever) and KMS key of each log group.
        filters: of each log group and name, what they are.
        alarms: of each name, what they are.
        of_stack: names of those that CloudFormation has made.
    """

    groups: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    filters: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    alarms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    of_stack: frozenset[str] = frozenset()


def watch_of(p: Portability, stack: str) -> Watch:
    """What watches a stack now."""
    belongs = _belonging(stack, _stacks(p))
    logs, cloudwatch = p.clients.logs, p.clients.cloudwatch
    groups, filters, alarms, of_stack = {}, {}, {}, set()
    for page in logs.get_paginator("describe_log_groups").paginate(logGroupNamePattern=stack):
        for group in page["logGroups"]:
            name = group["logGroupName"]
            if not belongs(name):
                continue
            groups[name] = {"retentionInDays": group.get("retentionInDays"), "kmsKeyId": group.get("kmsKeyId")}
            arn = group.get("logGroupArn") or group["arn"].removesuffix(":*")
            if _OF_A_STACK in logs.list_tags_for_resource(resourceArn=arn).get("tags", {}):
                of_stack.add(name)
    for name in groups:
        for page in logs.get_paginator("describe_metric_filters").paginate(logGroupName=name):
            for each in page["metricFilters"]:
                filters[name, each["filterName"]] = {part: each[part] for part in _FILTER if part in each}
    for page in cloudwatch.get_paginator("describe_alarms").paginate(AlarmNamePrefix=stack, AlarmTypes=["MetricAlarm"]):
        for alarm in page["MetricAlarms"]:
            if not belongs(alarm["AlarmName"]):
                continue
            alarms[alarm["AlarmName"]] = {part: alarm[part] for part in _ALARM if alarm.get(part) not in (None, [])}
            tags = cloudwatch.list_tags_for_resource(ResourceARN=alarm["AlarmArn"]).get("Tags", [])
            if any(tag["Key"] == _OF_A_STACK for tag in tags):
                of_stack.add(alarm["AlarmName"])
    return Watch(groups, filters, alarms, frozenset(of_stack))


def expected(source: Watch, source_stack: str, target_stack: str) -> Watch:
    """What has to watch the target."""

    def exchange(value: Any) -> Any:
        return _exchanged(value, source_stack, target_stack)

    return Watch(
        {exchange(name): group for name, group in source.groups.items() if name not in source.of_stack},
        {(exchange(group), exchange(name)): exchange(each) for (group, name), each in source.filters.items()},
        {
            exchange(name): {part: value if part in _ACTIONS else exchange(value) for part, value in alarm.items()}
            for name, alarm in source.alarms.items()
            if name not in source.of_stack
        },
    )


def mirror(p: Portability, source_stack: str, target_stack: str) -> dict[str, Any]:
    """Watch the target as the source is watched.

    Returns:
        How many of each there are, and what differs still; for the migration's notes.
    """
    wanted, found = expected(watch_of(p, source_stack), source_stack, target_stack), watch_of(p, target_stack)
    shared = target_stack == f"stack-{POOLED}"
    for name, group in wanted.groups.items():
        _keep_group(p, name, group, found.groups.get(name), shared=shared)
    groups = {*wanted.groups, *found.groups}
    for (group_name, name), each in wanted.filters.items():
        there = found.filters.get((group_name, name))
        if group_name in groups and there != each and not (there and shared):
            p.clients.logs.put_metric_filter(logGroupName=group_name, filterName=name, **each)
    for name, alarm in wanted.alarms.items():
        there = found.alarms.get(name)
        if there != alarm and not (there and shared):
            p.clients.cloudwatch.put_metric_alarm(**alarm)
    return {
        "source": source_stack,
        "target": target_stack,
        "log_groups": len(wanted.groups),
        "metric_filters": len(wanted.filters),
        "alarms": len(wanted.alarms),
        "differences": differences(p, source_stack, target_stack),
    }


def differences(p: Portability, source_stack: str, target_stack: str) -> list[str]:
    """What of the source's watch the target lacks, or has otherwise."""
    wanted, found = expected(watch_of(p, source_stack), source_stack, target_stack), watch_of(p, target_stack)
    told = []
    for kind, these, those in (
        ("log group", wanted.groups, found.groups),
        ("metric filter", wanted.filters, found.filters),
        ("alarm", wanted.alarms, found.alarms),
    ):
        for name, each in sorted(these.items()):
            if name not in those:
                told.append(f"{kind} {_text(name)}: expected it, found none")
                continue
            other = those[name]  # type: ignore[index]
            for part in sorted({*each, *other}):
                if each.get(part) != other.get(part):
                    told.append(f"{kind} {_text(name)}: expected {part} {each.get(part)!r}, found {other.get(part)!r}")
    return told


def unwatch(p: Portability, stack: str) -> dict[str, int]:
    """Remove what `mirror` has made for a stack that is gone. Log groups that hold events stay for their retention.

    Returns:
        How many of each were removed.
    """
    found = watch_of(p, stack)
    alarms = sorted(found.alarms.keys() - found.of_stack)
    for begin in range(0, len(alarms), 100):  # the most that one request takes
        p.clients.cloudwatch.delete_alarms(AlarmNames=alarms[begin : begin + 100])
    for group, name in found.filters:
        p.clients.logs.delete_metric_filter(logGroupName=group, filterName=name)
    removed = 0
    for name in sorted(found.groups.keys() - found.of_stack):
        if not p.clients.logs.describe_log_streams(logGroupName=name, limit=1)["logStreams"]:
            p.clients.logs.delete_log_group(logGroupName=name)
            removed += 1
    return {"alarms": len(alarms), "metric_filters": len(found.filters), "log_groups": removed}


def _keep_group(
    p: Portability, name: str, wanted: Mapping[str, Any], there: Mapping[str, Any] | None, *, shared: bool
) -> None:
    logs = p.clients.logs
    if there is None:
        key = {"kmsKeyId": wanted["kmsKeyId"]} if wanted["kmsKeyId"] else {}
        try:
            logs.create_log_group(logGroupName=name, **key)
        except logs.exceptions.ResourceAlreadyExistsException:
            there = {}
    if shared and there is not None:
        return
    if wanted["retentionInDays"] and (there or {}).get("retentionInDays") != wanted["retentionInDays"]:
        logs.put_retention_policy(logGroupName=name, retentionInDays=wanted["retentionInDays"])
    if not wanted["retentionInDays"] and (there or {}).get("retentionInDays"):
        logs.delete_retention_policy(logGroupName=name)
    if there is not None and wanted["kmsKeyId"] and there.get("kmsKeyId") != wanted["kmsKeyId"]:
        logs.associate_kms_key(logGroupName=name, kmsKeyId=wanted["kmsKeyId"])


def _exchanged(value: Any, source: str, target: str) -> Any:
    if isinstance(value, str):
        return _word(source).sub(target, value)
    if isinstance(value, list):
        return [_exchanged(each, source, target) for each in value]
    if isinstance(value, dict):
        return {key: _exchanged(each, source, target) for key, each in value.items()}
    return value


def _word(stack: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z0-9]){re.escape(stack)}(?![A-Za-z0-9])")


def _belonging(stack: str, stacks: set[str]) -> Any:
    """Tells whether a name is of the stack and not of another whose name begins so: ``stack-acme-2`` begins with ``stack-acme``."""
    longer = [_word(other) for other in stacks if other != stack and other.startswith(stack)]
    own = _word(stack)

    def belongs(name: str) -> bool:
        return own.search(name) is not None and not any(other.search(name) for other in longer)

    return belongs


def _stacks(p: Portability) -> set[str]:
    pages = p.clients.dynamodb.get_paginator("scan").paginate(
        TableName=STACKS, ConsistentRead=True, ProjectionExpression="stackName"
    )
    return {row["stackName"]["S"] for page in pages for row in page["Items"] if "stackName" in row}


def _text(name: Any) -> str:
    return name if isinstance(name, str) else " ".join(name)
