from __future__ import annotations

import pytest

from include.local.aws.cognito import function_arn
from include.local.aws.trial import trial_aws
from include.local.saas.clients import clients_at

PASSWORD = "Right-Horse-1"


@pytest.fixture(scope="module")
def cognito():
    with trial_aws() as url:
        yield clients_at(url).cognito


@pytest.fixture
def pool_id(cognito):
    return cognito.create_user_pool(
        PoolName="trial",
        AutoVerifiedAttributes=["email"],
        Schema=[
            {"Name": "tenantId", "AttributeDataType": "String", "Mutable": False},
            {"Name": "userRole", "AttributeDataType": "String", "Mutable": True},
        ],
    )["UserPool"]["Id"]


def make_client(cognito, pool_id, **settings):
    settings = {"ExplicitAuthFlows": ["ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"], **settings}
    return cognito.create_user_pool_client(UserPoolId=pool_id, ClientName="app", **settings)["UserPoolClient"][
        "ClientId"
    ]


def make_user(cognito, pool_id, **attributes):
    cognito.admin_create_user(
        UserPoolId=pool_id,
        Username="ann",
        MessageAction="SUPPRESS",
        UserAttributes=[{"Name": name.replace("__", ":"), "Value": value} for name, value in attributes.items()],
    )
    cognito.admin_set_user_password(UserPoolId=pool_id, Username="ann", Password=PASSWORD, Permanent=True)


def log_in(cognito, client_id, name="ann", password=PASSWORD):
    return cognito.initiate_auth(
        ClientId=client_id,
        AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": name, "PASSWORD": password},
    )["AuthenticationResult"]


def test_a_pool_has_the_standard_attributes_beside_its_own(cognito, pool_id):
    schema = cognito.describe_user_pool(UserPoolId=pool_id)["UserPool"]["SchemaAttributes"]

    assert {"email", "phone_number_verified", "custom:tenantId", "custom:userRole"} <= {each["Name"] for each in schema}


def test_a_client_without_the_flow_is_refused(cognito, pool_id):
    make_user(cognito, pool_id)
    client_id = make_client(cognito, pool_id, ExplicitAuthFlows=["ALLOW_USER_SRP_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"])

    with pytest.raises(cognito.exceptions.InvalidParameterException, match="not enabled"):
        log_in(cognito, client_id)


def test_a_client_writes_only_the_attributes_that_it_was_made_for(cognito, pool_id):
    make_user(cognito, pool_id, custom__tenantId="acme", custom__userRole="TenantUser")
    token = log_in(cognito, make_client(cognito, pool_id, WriteAttributes=["email"]))["AccessToken"]

    for name in ("custom:tenantId", "custom:userRole"):
        with pytest.raises(cognito.exceptions.NotAuthorizedException, match="unauthorized attribute"):
            cognito.update_user_attributes(AccessToken=token, UserAttributes=[{"Name": name, "Value": "other"}])
    cognito.update_user_attributes(AccessToken=token, UserAttributes=[{"Name": "email", "Value": "ann@example.org"}])

    found = {each["Name"]: each["Value"] for each in cognito.get_user(AccessToken=token)["UserAttributes"]}
    assert found["custom:tenantId"] == "acme"
    assert found["custom:userRole"] == "TenantUser"
    assert found["email"] == "ann@example.org"


def test_a_client_without_a_list_writes_the_standard_attributes_only(cognito, pool_id):
    client_id = make_client(cognito, pool_id)

    with pytest.raises(cognito.exceptions.NotAuthorizedException, match="unauthorized attribute"):
        cognito.sign_up(
            ClientId=client_id,
            Username="eve",
            Password=PASSWORD,
            UserAttributes=[{"Name": "custom:tenantId", "Value": "acme"}],
        )
    cognito.sign_up(
        ClientId=client_id,
        Username="eve",
        Password=PASSWORD,
        UserAttributes=[{"Name": "email", "Value": "eve@example.org"}],
    )


def test_an_immutable_attribute_stays_even_for_an_administrator(cognito, pool_id):
    make_user(cognito, pool_id, custom__tenantId="acme")

    with pytest.raises(cognito.exceptions.InvalidParameterException, match="cannot be updated"):
        cognito.admin_update_user_attributes(
            UserPoolId=pool_id, Username="ann", UserAttributes=[{"Name": "custom:tenantId", "Value": "acme-2"}]
        )


def test_a_user_who_must_reset_the_password_is_told_so(cognito, pool_id):
    make_user(cognito, pool_id, email="ann@example.org", email_verified="true")
    client_id = make_client(cognito, pool_id)
    cognito.admin_reset_user_password(UserPoolId=pool_id, Username="ann")

    with pytest.raises(cognito.exceptions.PasswordResetRequiredException):
        log_in(cognito, client_id)

    code = cognito.forgot_password(ClientId=client_id, Username="ann")["ResponseMetadata"]["HTTPHeaders"][
        "x-moto-forgot-password-confirmation-code"
    ]
    cognito.confirm_forgot_password(
        ClientId=client_id, Username="ann", ConfirmationCode=code, Password="Another-Horse-2"
    )
    assert log_in(cognito, client_id, password="Another-Horse-2")["IdToken"]


def test_an_unknown_user_is_hidden_if_the_client_says_so(cognito, pool_id):
    with pytest.raises(cognito.exceptions.UserNotFoundException):
        log_in(cognito, make_client(cognito, pool_id), name="nobody")
    with pytest.raises(cognito.exceptions.NotAuthorizedException, match="Incorrect username or password"):
        log_in(cognito, make_client(cognito, pool_id, PreventUserExistenceErrors="ENABLED"), name="nobody")


def test_a_token_carries_the_pool_the_groups_and_what_the_client_may_read(cognito, pool_id):
    import jwt

    make_user(cognito, pool_id, custom__tenantId="acme", custom__userRole="TenantUser", email="ann@example.org")
    cognito.create_group(UserPoolId=pool_id, GroupName="acme")
    cognito.admin_add_user_to_group(UserPoolId=pool_id, Username="ann", GroupName="acme")
    client_id = make_client(cognito, pool_id, ReadAttributes=["email", "custom:tenantId"])

    answer = log_in(cognito, client_id)

    claims = jwt.decode(answer["IdToken"], options={"verify_signature": False})
    assert claims["iss"].endswith(f"/{pool_id}")
    assert claims["aud"] == client_id
    assert claims["cognito:username"] == "ann"
    assert claims["cognito:groups"] == ["acme"]
    assert claims["custom:tenantId"] == "acme"
    assert claims["email"] == "ann@example.org"
    assert "custom:userRole" not in claims
    access = jwt.decode(answer["AccessToken"], options={"verify_signature": False})
    assert (access["client_id"], access["username"], access["cognito:groups"]) == (client_id, "ann", ["acme"])


def test_a_function_that_cognito_may_not_call_lets_nobody_in(cognito, pool_id):
    client_id = make_client(cognito, pool_id)
    cognito.update_user_pool(UserPoolId=pool_id, LambdaConfig={"UserMigration": function_arn("somebody-elses")})

    with pytest.raises(cognito.exceptions.UserLambdaValidationException):
        log_in(cognito, client_id)
    assert not cognito.list_users(UserPoolId=pool_id)["Users"]
