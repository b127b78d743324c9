"""The AWS services that a migration needs, each a boto3 client made when it is first used.

Time-outs are short and tries few, so that no call takes longer than `LONGEST_CALL_SECONDS`: a write of somebody who has lost a turn can't
arrive later than that.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECT_SECONDS: Final = 2
READ_SECONDS: Final = 10
_TRIES: Final = 2
_PAUSE_SECONDS: Final = 1
"""botocore's first pause in its standard mode is below this."""
LONGEST_CALL_SECONDS: Final = _TRIES * (CONNECT_SECONDS + READ_SECONDS) + _PAUSE_SECONDS


class Clients:
    """Clients by service.

    Args:
        make: gives a boto3 client of a service, with the configuration that it is given.
    """

    def __init__(self, make: Callable[[str, Any], Any]) -> None:
        self.make = make

    @classmethod
    def from_connection(cls, conn_id: str) -> Clients:
        """By an Airflow connection of type ``aws``."""
        from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook

        def make(service: str, config: Any) -> Any:
            return AwsGenericHook(aws_conn_id=conn_id, client_type=service, config=config).get_conn()

        return cls(make)

    @cached_property
    def dynamodb(self) -> Any:
        """Amazon DynamoDB."""
        return self._client("dynamodb")

    @cached_property
    def streams(self) -> Any:
        """DynamoDB Streams."""
        return self._client("dynamodbstreams")

    @cached_property
    def cognito(self) -> Any:
        """Amazon Cognito user pools."""
        return self._client("cognito-idp")

    @cached_property
    def apigateway(self) -> Any:
        """Amazon API Gateway."""
        return self._client("apigateway")

    @cached_property
    def codepipeline(self) -> Any:
        """AWS CodePipeline."""
        return self._client("codepipeline")

    @cached_property
    def cloudformation(self) -> Any:
        """AWS CloudFormation."""
        return self._client("cloudformation")

    @cached_property
    def iam(self) -> Any:
        """AWS IAM."""
        return self._client("iam")

    @cached_property
    def logs(self) -> Any:
        """Amazon CloudWatch Logs."""
        return self._client("logs")

    @cached_property
    def cloudwatch(self) -> Any:
        """Amazon CloudWatch."""
        return self._client("cloudwatch")

    @cached_property
    def s3(self) -> Any:
        """Amazon S3."""
        return self._client("s3")

    @cached_property
    def kms(self) -> Any:
        """AWS KMS."""
        return self._client("kms")

    def _client(self, service: str) -> Any:
        from botocore.config import Config

        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": _TRIES},
            max_pool_connections=32,
        )
        return self.make(service, config)
