"""What moto's Cognito lacks: the trigger *Migrate user*, imports from CSV, and rules about what an app client may do.

**The trigger.** `WithTriggers` stands before the server's lock. A login by password, or a forgotten one, of a user whom the pool doesn't
know calls the pool's function; what it answers becomes the user, and the request goes on as if the user had always been there. The
function runs without the lock, as on AWS, where other requests go on meanwhile: its own calls come in like anybody's
(`include.local.aws.in_process`), and of several first logins at once the first makes the user.

**Functions.** Moto needs Docker to run a Lambda function. Here an ARN that ends in a name of `FUNCTIONS` runs that Python function in
this process; any other ARN is a function that Cognito may not call.
"""

from __future__ import annotations

import io
import json
import secrets
from typing import TYPE_CHECKING, Any, Final

from moto.cognitoidp.exceptions import InvalidParameterException, NotAuthorizedError, UserNotFoundError
from moto.cognitoidp.models import (
    CognitoIdpBackend,
    CognitoIdpUser,
    CognitoIdpUserPool,
    CognitoIdpUserPoolAttribute,
    CognitoIdpUserPoolClient,
    UserStatus,
    cognitoidp_backends,
)
from moto.core.exceptions import JsonRESTError
from moto.core.models import DEFAULT_ACCOUNT_ID

from include.local.aws import user_import
from include.local.aws.in_process import REGION, STARTING
from include.local.aws.wrapping import replace, wrap
from include.tenants import user_migration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

    from include.local.aws.server import OneAtATime

USER_MIGRATION: Final = "tenant-user-migration"
"""Name of the function that lets moving tenants' users in."""
FUNCTIONS: Final[dict[str, Callable[[dict[str, Any], object], dict[str, Any]]]] = {
    USER_MIGRATION: user_migration.handler
}
_PASSWORD_FLOWS: Final = frozenset({"USER_PASSWORD_AUTH", "ADMIN_USER_PASSWORD_AUTH", "ADMIN_NO_SRP_AUTH"})
_DEFAULT_FLOWS: Final = ("ALLOW_REFRESH_TOKEN_AUTH", "ALLOW_USER_SRP_AUTH", "ALLOW_CUSTOM_AUTH")
_TARGET: Final = "AWSCognitoIdentityProviderService."


def function_arn(name: str) -> str:
    """The ARN of a function of the stand-in's account."""
    return f"arn:aws:lambda:{REGION}:{DEFAULT_ACCOUNT_ID}:function:{name}"


class _CognitoError(JsonRESTError):
    """An error of Cognito that moto does not know."""


class WithTriggers:
    """The server's application, with Cognito's triggers and the upload of user files before it.

    Args:
        application: the rest.
    """

    def __init__(self, application: OneAtATime) -> None:
        self._application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        action = environ.get("HTTP_X_AMZ_TARGET", "").removeprefix(_TARGET)
        if environ["REQUEST_METHOD"] == "PUT" and environ["PATH_INFO"].startswith(user_import.PATH):
            status, text = user_import.upload(environ["PATH_INFO"], environ, _body(environ))
            start_response("200 OK" if status == 200 else "403 Forbidden", [("Content-Type", "text/plain")])
            return [text.encode()]
        if action in {"InitiateAuth", "AdminInitiateAuth", "ForgotPassword"}:
            body = _body(environ)
            environ["wsgi.input"] = io.BytesIO(body)
            try:
                self._let_in(action, json.loads(body))
            except JsonRESTError as error:
                start_response("400 Bad Request", [("Content-Type", "application/x-amz-json-1.1")])
                return [json.dumps({"__type": error.error_type, "message": error.message}).encode()]
        return self._application(environ, start_response)

    def _let_in(self, action: str, asked: dict[str, Any]) -> None:
        """Make the user that the pool's function tells, if the pool doesn't know who is asking."""
        with self._application.lock:
            event = _event(action, asked)
        if event is None:
            return
        try:
            answer = self._call(event)
        except JsonRESTError:
            raise
        except Exception:
            _, client = _pool_and_client(asked["ClientId"])
            raise _unknown_user(client, f"Exception migrating user in app client {asked['ClientId']}") from None
        with self._application.lock:
            _make_user(event, answer["response"])

    def _call(self, event: dict[str, Any]) -> dict[str, Any]:
        pool, _ = _pool_and_client(event["callerContext"]["clientId"])
        arn = pool.extended_config["LambdaConfig"]["UserMigration"]
        function = FUNCTIONS.get(arn.rsplit(":", 1)[-1])
        if function is None:
            raise _CognitoError("UserLambdaValidationException", f"cannot invoke {arn}")
        with STARTING:
            user_migration.clients()
        answer: dict[str, Any] = json.loads(json.dumps(function(event, None)))  # as it would travel
        return answer


def install() -> None:
    """Make moto behave so; a second call changes nothing."""
    user_import.install()
    wrap(CognitoIdpBackend, "initiate_auth", _guarded_login)
    wrap(CognitoIdpBackend, "admin_initiate_auth", _guarded_login)
    wrap(CognitoIdpBackend, "confirm_forgot_password", _confirming)
    wrap(CognitoIdpBackend, "sign_up", _signing_up)
    wrap(CognitoIdpBackend, "update_user_attributes", _updating_oneself)
    wrap(CognitoIdpBackend, "admin_update_user_attributes", _updating)
    wrap(CognitoIdpBackend, "delete_user_pool", _protecting)
    wrap(CognitoIdpUserPool, "__init__", _with_standard_schema)
    wrap(CognitoIdpUserPool, "create_id_token", _readable)
    replace(CognitoIdpUserPoolClient, "get_readable_fields", _readable_fields)


def _body(environ: WSGIEnvironment) -> bytes:
    body: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    return body


def _pools() -> list[CognitoIdpUserPool]:
    return [
        pool
        for regions in list(cognitoidp_backends.values())
        for backend in list(regions.values())
        for pool in list(backend.user_pools.values())
    ]


def _pool_and_client(client_id: str) -> tuple[Any, Any]:
    for pool in _pools():
        if client_id in pool.clients:
            return pool, pool.clients[client_id]
    return None, None


def _unknown_user(client: Any, message: str) -> JsonRESTError:
    """How Cognito says that there is no such user: a client may be set to hide it."""
    if client and client.extended_config.get("PreventUserExistenceErrors") == "ENABLED":
        return NotAuthorizedError("Incorrect username or password.")
    return UserNotFoundError(message)


def _event(action: str, asked: dict[str, Any]) -> dict[str, Any] | None:
    """What the pool's function is told; None if it isn't called."""
    pool, client = _pool_and_client(asked.get("ClientId", ""))
    if pool is None or not (pool.extended_config.get("LambdaConfig") or {}).get("UserMigration"):
        return None
    parameters = asked.get("AuthParameters") or {}
    forgotten = action == "ForgotPassword"
    user_name = asked.get("Username") if forgotten else parameters.get("USERNAME")
    if not user_name or pool._get_user(user_name):
        return None
    if not forgotten:
        if asked.get("AuthFlow") not in _PASSWORD_FLOWS:
            return None
        _check_flow(client, asked["AuthFlow"])
    request = {"clientMetadata" if forgotten else "validationData": asked.get("ClientMetadata")}
    return {
        "version": "1",
        "triggerSource": "UserMigration_ForgotPassword" if forgotten else "UserMigration_Authentication",
        "region": pool.region,
        "userPoolId": pool.id,
        "userName": user_name,
        "callerContext": {"awsSdkVersion": "aws-sdk-unknown-unknown", "clientId": client.id},
        "request": request if forgotten else {"password": parameters.get("PASSWORD"), **request},
        "response": dict.fromkeys(
            (
                "userAttributes",
                "finalUserStatus",
                "messageAction",
                "desiredDeliveryMediums",
                "forceAliasCreation",
                "enableSMSMFA",
            )
        ),
    }


def _make_user(event: dict[str, Any], response: dict[str, Any]) -> None:
    pool, _ = _pool_and_client(event["callerContext"]["clientId"])
    if pool is None or pool._get_user(event["userName"]):
        return  # another login was faster
    attributes = response.get("userAttributes")
    if not attributes or not all(isinstance(value, str) for value in attributes.values()):
        raise _CognitoError("InvalidLambdaResponseException", "expected userAttributes, each a string")
    unknown = [name for name in attributes if name not in pool.schema_attributes]
    if unknown:
        raise _CognitoError("InvalidLambdaResponseException", f"the user pool has no attributes {unknown}")
    confirmed = response.get("finalUserStatus") == "CONFIRMED"
    pool.users[event["userName"]] = CognitoIdpUser(
        pool.id,
        event["userName"],
        event["request"].get("password") if confirmed else secrets.token_urlsafe(),
        UserStatus.CONFIRMED if confirmed else UserStatus.RESET_REQUIRED,
        [{"Name": name, "Value": value} for name, value in attributes.items()],
    )


def _check_flow(client: Any, flow: str) -> None:
    allowed = client.extended_config.get("ExplicitAuthFlows") or _DEFAULT_FLOWS
    wanted = {"REFRESH_TOKEN": "REFRESH_TOKEN_AUTH", "ADMIN_NO_SRP_AUTH": "ADMIN_USER_PASSWORD_AUTH"}.get(flow, flow)
    if not {flow, wanted, f"ALLOW_{wanted}"} & set(allowed):
        raise InvalidParameterException(f"{flow} flow not enabled for this client")


def _guarded_login(login: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(self: CognitoIdpBackend, *arguments: Any) -> Any:
        client_id, flow, parameters = arguments[-3:]
        pool, client = _pool_and_client(client_id)
        if client:
            _check_flow(client, flow)
        if pool and "REFRESH" not in flow:
            user = pool._get_user((parameters or {}).get("USERNAME", ""))
            if user is None:
                raise _unknown_user(client, "User does not exist.")
            if user.enabled and user.status == UserStatus.RESET_REQUIRED:
                raise _CognitoError("PasswordResetRequiredException", "Password reset required for the user")
        return login(self, *arguments)

    return guarded


def _confirming(confirm: Callable[..., None]) -> Callable[..., None]:
    def confirmed(self: CognitoIdpBackend, client_id: str, username: str, *arguments: Any) -> None:
        confirm(self, client_id, username, *arguments)
        pool, _ = _pool_and_client(client_id)
        user = pool._get_user(username)
        if user.status == UserStatus.RESET_REQUIRED:
            user.status = UserStatus.CONFIRMED

    return confirmed


def _signing_up(sign_up: Callable[..., Any]) -> Callable[..., Any]:
    def signed_up(
        self: CognitoIdpBackend, client_id: str, username: str, password: str, attributes: list[dict[str, str]]
    ) -> Any:
        _check_writable(_pool_and_client(client_id)[1], attributes)
        return sign_up(self, client_id, username, password, attributes)

    return signed_up


def _updating_oneself(update: Callable[..., None]) -> Callable[..., None]:
    def updated(self: CognitoIdpBackend, access_token: str, attributes: list[dict[str, str]]) -> None:
        for pool in _pools():
            if access_token in pool.access_tokens:
                _check_writable(pool.clients.get(pool.access_tokens[access_token][0]), attributes)
                _check_mutable(pool, [each["Name"] for each in attributes])
        update(self, access_token, attributes)

    return updated


def _check_writable(client: Any, attributes: list[dict[str, str]]) -> None:
    """A client may write the attributes that it was made for; unless told, the standard ones."""
    allowed = (client and client.extended_config.get("WriteAttributes")) or user_import.STANDARD
    if any(each["Name"] not in allowed for each in attributes or []):
        raise NotAuthorizedError("A client attempted to write unauthorized attribute")


def _updating(update: Callable[..., None]) -> Callable[..., None]:
    def updated(self: CognitoIdpBackend, user_pool_id: str, username: str, attributes: list[dict[str, str]]) -> None:
        _check_mutable(self.describe_user_pool(user_pool_id), [each["Name"] for each in attributes])
        update(self, user_pool_id, username, attributes)

    return updated


def _check_mutable(pool: CognitoIdpUserPool, names: Iterable[str]) -> None:
    for name in names:
        attribute = pool.schema_attributes.get(name)
        if attribute is None:
            raise InvalidParameterException(
                f"Attributes did not conform to the schema: Type for attribute {{{name}}} could not be determined"
            )
        if not attribute.mutable:
            raise InvalidParameterException(f"user.{name}: Attribute cannot be updated.")


def _protecting(delete: Callable[..., None]) -> Callable[..., None]:
    def deleted(self: CognitoIdpBackend, user_pool_id: str) -> None:
        if self.describe_user_pool(user_pool_id).extended_config.get("DeletionProtection") == "ACTIVE":
            raise InvalidParameterException("The user pool cannot be deleted because deletion protection is activated.")
        delete(self, user_pool_id)

    return deleted


def _with_standard_schema(make: Callable[..., None]) -> Callable[..., None]:
    """A pool has the standard attributes whatever others it is made with."""

    def made(self: CognitoIdpUserPool, *arguments: Any, **named: Any) -> None:
        make(self, *arguments, **named)
        for name, schema in CognitoIdpUserPoolAttribute.STANDARD_SCHEMA.items():
            self.schema_attributes.setdefault(name, CognitoIdpUserPoolAttribute(name, False, schema))

    return made


def _readable(create: Callable[..., tuple[str, int]]) -> Callable[..., tuple[str, int]]:
    """An id token has the custom attributes that its client may read; moto puts all of them in."""

    def created(self: CognitoIdpUserPool, client_id: str, username: str, origin_jti: str) -> tuple[str, int]:
        user, readable = self._get_user(username), set(self.clients[client_id].get_readable_fields())
        everything = user.attributes
        user.attributes = [
            each for each in everything if not each["Name"].startswith("custom:") or each["Name"] in readable
        ]
        try:
            return create(self, client_id, username, origin_jti)
        finally:
            user.attributes = everything

    return created


def _readable_fields(self: CognitoIdpUserPoolClient) -> list[str]:
    return self.extended_config.get("ReadAttributes") or list(user_import.STANDARD)
