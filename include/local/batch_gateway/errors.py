"""The gateway's errors: a status and the Java exception that its message begins with."""

from __future__ import annotations

from typing import Final

WEB: Final = "javax.ws.rs.WebApplicationException"
KUBERNETES: Final = "io.fabric8.kubernetes.client.KubernetesClientException"


class GatewayError(Exception):
    """What goes back instead of an answer.

    Attributes:
        status: of HTTP.
        exception: class of the Java exception that the real gateway would have thrown.
    """

    def __init__(self, message: str, status: int = 400, exception: str = WEB) -> None:
        super().__init__(message)
        self.status = status
        self.exception = exception

    @property
    def told(self) -> str:
        """Class and message, as every body of an error tells them."""
        return f"{self.exception}: {self}"


def java(exception: str, message: str) -> GatewayError:
    """An exception that nothing in the real gateway expects: 500."""
    return GatewayError(message, 500, exception)


class NotAuthorized(GatewayError):
    """No user, or one that is not allowed: a body of its own form."""

    def __init__(self) -> None:
        super().__init__("HTTP 401 Unauthorized.", 401)
