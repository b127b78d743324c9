"""The names of jobs: unique, legible, and left alone by the gateway."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_platform.batch_gateway.exceptions import SubmissionIdInvalid
from data_platform.batch_gateway.names import SubmissionId, application_name, normalise_label

PARTS = {
    "dag_id": "submit_spark_pi",
    "task_id": "submit",
    "run_id": "manual__2026-11-26T10:00:00+00:00",
    "map_index": 3,
    "attempt": 1,
    "environment": "prod",
}
UUID = "f72a7ddcfde14f4390194d4027c1e1d6"
parts = st.fixed_dictionaries(
    {
        "dag_id": st.text(min_size=1, max_size=250),
        "task_id": st.text(min_size=1, max_size=250),
        "run_id": st.text(max_size=250),
        "map_index": st.integers(-1, 10**9),
        "attempt": st.one_of(st.integers(0, 10**6), st.text(max_size=40)),
        "environment": st.text(max_size=40),
    }
)


def test_a_name_says_dag_task_and_map_index():
    assert re.fullmatch(r"submit_spark_pi\.submit\.3-[0-9a-f]{16}", application_name(**PARTS))
    assert re.fullmatch(r"submit_spark_pi\.submit-[0-9a-f]{16}", application_name(**{**PARTS, "map_index": -1}))


@pytest.mark.parametrize("part", PARTS)
def test_another_of_any_part_gives_another_name(part):
    value = PARTS[part]
    other = value + 1 if isinstance(value, int) else f"{value}2"
    assert application_name(**{**PARTS, part: other}) != application_name(**PARTS)


def test_the_border_between_two_parts_counts():
    left = application_name(**{**PARTS, "dag_id": "a.b", "task_id": "c", "run_id": "x", "environment": "yz"})
    right = application_name(**{**PARTS, "dag_id": "a", "task_id": "b.c", "run_id": "zx", "environment": "y"})
    assert left != right


def test_an_attempt_may_be_a_number_or_its_text():
    assert application_name(**{**PARTS, "attempt": "1"}) == application_name(**PARTS)


def test_another_process_gives_the_same_name():
    code = f"from data_platform.batch_gateway.names import application_name; print(application_name(**{PARTS!r}))"
    plugins = str(Path(__file__).parents[3] / "plugins")
    answer = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": plugins, "PYTHONHASHSEED": "7"}, capture_output=True, text=True
    )
    assert answer.stdout.strip() == application_name(**PARTS), answer.stderr


def test_a_long_dag_id_leaves_room_for_the_task_and_the_other_way_round():
    long = application_name(**{**PARTS, "dag_id": "d" * 250})
    assert re.fullmatch(r"d{30,}\.submit\.3-[0-9a-f]{16}", long)
    long = application_name(**{**PARTS, "task_id": "t" * 250})
    assert re.fullmatch(r"submit_spark_pi\.t{20,}\.3-[0-9a-f]{16}", long)
    assert len(application_name(**{**PARTS, "dag_id": "d" * 250, "task_id": "t" * 250})) == 63


@settings(deadline=None)
@given(parts)
@example({**PARTS, "dag_id": "__", "task_id": "...", "map_index": -1})
@example({**PARTS, "dag_id": "\N{SNOWMAN}", "task_id": "\N{PILE OF POO}"})
def test_a_name_is_a_label_that_the_gateway_leaves_alone(given_parts):
    name = application_name(**given_parts)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*[A-Za-z0-9]", name)
    assert len(name) <= 63
    assert normalise_label(name) == name


@settings(deadline=None)
@given(parts, parts)
def test_different_parts_give_different_names(some, others):
    told = [{**each, "attempt": str(each["attempt"])} for each in (some, others)]
    assert (application_name(**some) == application_name(**others)) == (told[0] == told[1])


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("", ""),
        ("SparkPiDemo", "SparkPiDemo"),
        ("Spark Pi/demo", "Spark0Pi0demo"),
        ("_job.", "0job0"),
        ("-", "0"),
        ("a_b.c-d", "a_b.c-d"),
        ("caf\u00e9", "caf0"),
        ("x\N{PILE OF POO}y", "x00y"),  # two of Java's characters
        ("a" * 70, "a" * 63),
        ("a" * 62 + "-b", "a" * 62 + "0"),  # cut first, then the last is judged
        ("a" * 62 + "\N{PILE OF POO}", "a" * 62 + "0"),
    ],
)
def test_a_label_is_normalised_as_the_gateway_does(text, label):
    assert normalise_label(text) == label


@settings(deadline=None)
@given(st.text(max_size=100))
def test_normalising_twice_changes_nothing(text):
    once = normalise_label(text)
    assert normalise_label(once) == once
    assert re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?", once)


@pytest.mark.parametrize(
    ("text", "cluster", "suffix", "dashed", "reported"),
    [
        (f"sparkclustera-{UUID}", "sparkclustera", "", False, "sparkclustera"),
        (f"sparkclustera-{UUID}-nightly-2", "sparkclustera", "nightly-2", False, "sparkclustera"),
        (f"spark-cluster-a-{UUID}", "spark-cluster-a", "", True, "spark"),
        (f"spark-cluster-b-{UUID}-x", "spark-cluster-b", "x", True, "spark"),
        (f"c-{UUID}-{UUID}", "c", UUID, False, "c"),
    ],
)
def test_a_submission_id_is_taken_apart(text, cluster, suffix, dashed, reported):
    found = SubmissionId.parse(text)
    assert (found.cluster, found.uuid, found.suffix) == (cluster, UUID, suffix)
    assert (found.dashed, found.reported_cluster) == (dashed, reported)
    assert str(found) == found.text == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        UUID,
        f"-{UUID}",
        "sparkclustera",
        f"sparkclustera-{UUID[:31]}",
        f"sparkclustera-{UUID}x",
        f"a-{UUID}-",
        f"a b-{UUID}",
        f"sparkclustera-{UUID.upper()}",
        f"a-{UUID}\n",
    ],
)
def test_what_is_no_submission_id_is_refused(text):
    with pytest.raises(SubmissionIdInvalid, match=r"expected <cluster>-<32 hex digits>.*; found") as refused:
        SubmissionId.parse(text)
    assert repr(text) in str(refused.value)
    assert isinstance(refused.value, AirflowFailException)
