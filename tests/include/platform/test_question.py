"""What becomes of a person's answer, and of silence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG, Param
from airflow.sdk.exceptions import ParamValidationError, TaskAwaitingInput

from include.platform.question import LEAST_REASON, MOST_REASON, QuestionOperator, read_answer

AT = datetime(2026, 11, 27, 3, 30, tzinfo=UTC)
GOOD = "Because it is better"


def answer(**changes):
    """As XCom gives it back."""
    return {
        "chosen_options": ["Yes"],
        "params_input": {"reason": GOOD},
        "responded_at": AT.isoformat(),
        "responded_by_user": {"id": "7", "name": "mia"},
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "by", "reason", "reasoned"),
    [
        ({}, "mia", GOOD, True),
        ({"responded_by_user": {"id": "7", "name": ""}}, "7", GOOD, True),
        ({"responded_by_user": {"id": "7"}}, "7", GOOD, True),
        ({"responded_by_user": None}, "nobody", GOOD, False),
        ({"responded_by_user": {}}, "nobody", GOOD, False),
        ({"params_input": {"reason": "x" * LEAST_REASON}}, "mia", "x" * LEAST_REASON, True),
        ({"params_input": {"reason": "x" * (LEAST_REASON - 1)}}, "mia", "x" * (LEAST_REASON - 1), False),
        ({"params_input": {"reason": f"  {'x ' * 3}{' ' * 20}y\n"}}, "mia", "x x x y", False),
        ({"params_input": {"reason": None}}, "mia", "", False),
        ({"params_input": {}}, "mia", "", False),
        ({"params_input": None}, "mia", "", False),
    ],
)
def test_only_a_person_with_a_reason_counts(changes, by, reason, reasoned):
    said = read_answer(answer(**changes))
    assert (said.choice, said.by, said.reason, said.reasoned, said.at) == ("Yes", by, reason, reasoned, AT)


def test_the_moment_may_be_one_already():
    assert read_answer(answer(responded_at=AT)).at == AT


@pytest.mark.parametrize("chosen", [[], ["Yes", "No"]])
def test_no_choice_or_two_are_no_answer(chosen):
    with pytest.raises(ValueError, match="unpack"):
        read_answer(answer(chosen_options=chosen))


def question(**arguments):
    given = {
        "task_id": "ask",
        "subject": "Shall it?",
        "body": "It would.",
        "options": ("Yes", "No"),
        "default": "No",
        "reason": "For the audit.",
        "answer_within": timedelta(hours=3),
        **arguments,
    }
    return QuestionOperator(**given)


def test_it_waits_for_the_answer_and_not_for_the_limit_of_a_task():
    """Airflow would take the limit of the task's execution for that of the answer."""
    with DAG("some", schedule=None, default_args={"execution_timeout": timedelta(minutes=1)}):
        asked = question()
    assert (asked.response_timeout, asked.execution_timeout) == (timedelta(hours=3), None)
    assert question(execution_timeout=timedelta(minutes=1)).execution_timeout is None


def test_silence_is_the_default_answer():
    asked = question()
    assert (asked.options, asked.defaults) == (["Yes", "No"], ["No"])
    with pytest.raises(ValueError, match="should be a subset"):
        question(default="Perhaps")


def test_its_form_asks_for_a_reason_and_for_nothing_of_the_run():
    with DAG("some", schedule=None, params={"tenant_id": Param("acme", type="string")}):
        asked = question()
    form = asked.serialized_params
    assert list(form) == ["reason"]
    assert form["reason"]["value"] == ""
    assert form["reason"]["description"] == "For the audit."


@pytest.fixture
def asked(monkeypatch):
    """The questions that were put to Airflow."""
    put: list[dict[str, object]] = []
    monkeypatch.setattr(
        "airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **detail: put.append(detail)
    )
    return put


def answered(operator, **changes):
    context = {"task_instance": SimpleNamespace(id="an id")}
    return operator.execute_complete(context, answer(responded_at=AT, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"params_input": {"reason": ""}},
        {"params_input": {}},
        {"params_input": {"reason": " too  few "}},
        {"responded_by_user": None},
    ],
)
def test_who_gives_no_reason_for_an_answer_that_needs_one_is_asked_again(asked, capsys, changes):
    with pytest.raises(TaskAwaitingInput) as waits:
        answered(question(reasoned=["Yes"]), **changes)
    assert (waits.value.method_name, waits.value.timeout) == ("execute_complete", timedelta(hours=3))
    assert [one["ti_id"] for one in asked] == ["an id"]
    assert "at least 10 characters for Yes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("reasoned", "changes"),
    [
        (["Yes"], {}),
        (["Yes"], {"chosen_options": ["No"], "params_input": {}}),
        (["Yes"], {"chosen_options": ["No"], "params_input": {}, "responded_by_user": None}),
        ([], {"params_input": {}}),
    ],
)
def test_any_other_answer_is_taken(asked, reasoned, changes):
    taken = answered(question(reasoned=reasoned), **changes)
    assert taken["chosen_options"] == changes.get("chosen_options", ["Yes"])
    assert asked == []


def test_silence_can_not_be_an_answer_that_needs_a_reason():
    with pytest.raises(ValueError, match="a default that needs no reason, found 'No'"):
        question(reasoned=["Yes", "No"])


@pytest.mark.parametrize(("length", "fits"), [(0, True), (MOST_REASON, True), (MOST_REASON + 1, False)])
def test_a_reason_has_an_end(length, fits):
    param = question().params.get_param("reason")
    if fits:
        assert param.resolve("x" * length) == "x" * length
    else:
        with pytest.raises(ParamValidationError):
            param.resolve("x" * length)
