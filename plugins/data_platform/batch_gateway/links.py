"""Links of a job on its task's page. Each is there as soon as its target is known, while the task is deferred too."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from airflow.sdk import BaseOperatorLink
from airflow.sdk.execution_time.xcom import XCom

from data_platform.batch_gateway.protocol import describe, log
from data_platform.batch_gateway.states import is_terminal

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

    from data_platform.batch_gateway.config import GatewayConfig
    from data_platform.batch_gateway.protocol import JobStatus


class _JobLink(BaseOperatorLink):
    """A link whose target a task or trigger wrote under the link's own XCom key."""

    name: ClassVar[str]

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """The target; empty if it is not known."""
        del operator
        return str(XCom.get_value(key=self.xcom_key, ti_key=ti_key) or "")


class SparkUiLink(_JobLink):
    """Spark's own UI, while the job runs."""

    name = "Spark UI"


class SparkHistoryLink(_JobLink):
    """The job in the Spark history server."""

    name = "Spark history"


class DriverLogLink(_JobLink):
    """The driver's log at the gateway."""

    name = "Driver log"


class GatewayRecordLink(_JobLink):
    """The job's spec and events at the gateway."""

    name = "Gateway record"


def link_of(status: JobStatus) -> SparkUiLink | SparkHistoryLink:
    """The link whose target is the status's UI address."""
    return SparkHistoryLink() if is_terminal(status.state) else SparkUiLink()


LINKS = (SparkUiLink(), SparkHistoryLink(), DriverLogLink(), GatewayRecordLink())


def links_at_submission(config: GatewayConfig, submission_id: str) -> dict[str, str]:
    """XCom key and target of the links that are known as soon as the job has an id."""
    log_call, record = log(submission_id), describe(submission_id)
    return {
        DriverLogLink().xcom_key: f"{config.url}{log_call.path}?subId={log_call.params['subId']}",
        GatewayRecordLink().xcom_key: f"{config.url}{record.path}",
    }


def history_link(config: GatewayConfig, application_id: str | None, ui_url: str | None) -> dict[str, str]:
    """The link of a finished job, if there is a history server: the gateway's own word first, then the connection's."""
    url = ui_url
    if not url and config.history_url and application_id:
        url = config.history_url.replace("{application_id}", application_id)
    return {SparkHistoryLink().xcom_key: url} if url else {}
