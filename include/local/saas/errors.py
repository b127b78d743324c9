"""What the application answers when it does not do what was asked."""

from __future__ import annotations


class ApiError(Exception):
    """Any of them.

    Attributes:
        status: of the answer over HTTP.
    """

    status = 500


class Refused(ApiError):
    """What was asked for can't be done; asking again won't help."""

    status = 400


class Unauthorized(ApiError):
    """Nobody whom the application knows."""

    status = 401


class Forbidden(ApiError):
    """Somebody, but not with a right to this."""

    status = 403


class NotFound(ApiError):
    """There is no such item."""

    status = 404


class Fenced(ApiError):
    """The tenant is being moved; nothing was written.

    Attributes:
        retry_after: when to come again, in seconds.
    """

    status = 503

    def __init__(self, message: str, retry_after: float = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Elsewhere(ApiError):
    """The tenant is served at another address.

    Attributes:
        url: where.
    """

    status = 308

    def __init__(self, url: str) -> None:
        super().__init__(f"served at {url}")
        self.url = url


class Unclear(ApiError):
    """No answer came, or none that says whether it was done."""

    status = 504
