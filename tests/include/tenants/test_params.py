"""The trigger forms say and allow what a request does."""

from __future__ import annotations

import re

import pytest
from airflow.sdk.exceptions import ParamValidationError

from include.tenants.exceptions import BadRequest
from include.tenants.params import migration_params, tenant_param, why_param
from include.tenants.request import LIMITS, MigrationRequest
from include.tenants.saas import Tier, checked_tenant_id

FORM = migration_params()


def test_each_number_has_the_bounds_and_the_default_of_a_request_and_tells_them():
    default = MigrationRequest("acme", Tier.BASIC)
    numbers = {name for name, param in FORM.items() if param.schema["type"] == "number"}
    assert numbers == LIMITS.keys()
    for name, (least, most) in LIMITS.items():
        schema = FORM[name].schema
        assert (schema["minimum"], schema["maximum"]) == (least, most), name
        assert FORM[name].value == getattr(default, name), name
        assert FORM[name].description.endswith(f"{least:g} to {most:g}."), name


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_what_the_form_refuses_a_request_refuses_too_and_the_other_way_round(name):
    """A run may also be triggered by the API, past any form."""
    least, most = LIMITS[name]
    for value, good in ((least, True), (most, True), (least - 1, False), (most + 1, False), ("1", False)):
        request = {"tenant_id": "acme", "target_tier": "Basic", name: value}
        if good:
            assert FORM[name].resolve(value) == value
            assert getattr(MigrationRequest.from_mapping(request), name) == value
        else:
            with pytest.raises(ParamValidationError):
                FORM[name].resolve(value)
            with pytest.raises(BadRequest, match=re.escape(f"{name}: expected a number from {least} to {most}")):
                MigrationRequest.from_mapping(request)


@pytest.mark.parametrize("tenant_id", ["a", "acme-2-1", "0f3a" * 8, "A" * 63])
def test_an_id_that_the_form_takes_is_taken(tenant_id):
    assert tenant_param().resolve(tenant_id) == checked_tenant_id(tenant_id) == tenant_id


@pytest.mark.parametrize("tenant_id", ["", "-a", "a_b", "a/b", "ä", "A" * 64, None, 7])
def test_an_id_that_the_form_refuses_is_refused(tenant_id):
    with pytest.raises(ParamValidationError):
        tenant_param().resolve(tenant_id)
    with pytest.raises(BadRequest, match="letters, digits and dashes"):
        checked_tenant_id(tenant_id)


def test_the_end_of_a_line_that_a_pattern_overlooks_is_refused_by_the_request():
    with pytest.raises(BadRequest, match="letters, digits and dashes"):
        checked_tenant_id("a\n")


def test_all_tiers_can_be_chosen():
    assert FORM["target_tier"].schema["enum"] == [tier.value for tier in Tier]


def test_the_form_says_what_a_tier_shares():
    shared = [tier.value for tier in Tier if not tier.silo]
    assert all(name in FORM["target_tier"].description for name in shared)


def test_a_filled_in_form_is_a_request_and_the_dry_run_is_none_of_its_business():
    filled = {name: param.value for name, param in FORM.items()}
    filled |= {"tenant_id": "acme", "target_tier": "Platinum", "why": "They pay for it"}
    request = MigrationRequest.from_mapping(filled)
    assert request.to_mapping() == {name: value for name, value in filled.items() if name != "dry_run"}
    assert MigrationRequest.from_mapping(request.to_mapping()) == request


def test_why_is_needed_in_more_than_a_word():
    assert why_param("What for.").description == "What for."
    assert why_param("x").resolve("ticket 4711") == "ticket 4711"
    for value in (None, "", "because", "x" * 1001):
        with pytest.raises(ParamValidationError):
            why_param("x").resolve(value)
