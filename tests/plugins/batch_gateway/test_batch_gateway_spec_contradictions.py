"""Fields that are right by themselves and wrong together are refused."""

import pytest

from data_platform.batch_gateway.spec import CLUSTER_ID_ALLOWANCE, JobSpec
from tests.plugins.batch_gateway.spec_samples import FULL, PI, line, refused, with_


@pytest.mark.parametrize(
    ("changes", "path", "expected"),
    [
        ({"type": "Java", "mainClass": None}, "mainClass", "the class to run, since type is Java"),
        ({"type": "Scala", "mainClass": None}, "mainClass", "the class to run, since type is Scala"),
        ({"mainClass": None}, "mainClass", "the class to run, since mainApplicationFile is a jar"),
        ({"type": "Python", "mainApplicationFile": "a.py"}, "type", "Java or Scala, since mainClass is given"),
        ({"type": "R", "mainApplicationFile": "a.R"}, "type", "Java or Scala, since mainClass is given"),
        ({"mainClass": None, "mainApplicationFile": "a.R"}, "type", "R, since mainApplicationFile is R"),
        ({"mainApplicationFile": "a.py"}, "mainApplicationFile", "a jar, since mainClass is given"),
        ({"type": "Python", "mainClass": None}, "mainApplicationFile", "a file of Python, which type says"),
    ],
)
def test_type_class_and_file_that_contradict_each_other_are_refused(changes, path, expected):
    assert f"expected {expected}; found" in line(refused({**PI, **changes}), path)


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "Java"},
        {"type": "Scala"},
        {"type": "Python", "mainClass": None, "mainApplicationFile": "a.py"},
        {"mainClass": None, "mainApplicationFile": "a.py"},
        {"type": "R", "mainClass": None, "mainApplicationFile": "a.R"},
    ],
)
def test_type_class_and_file_that_go_together_pass(changes):
    assert JobSpec.read({**PI, **changes})


@pytest.mark.parametrize(("cluster", "room"), [("sparkclustera", 9), (None, 22 - CLUSTER_ID_ALLOWANCE), ("c", 21)])
def test_a_suffix_fills_the_drivers_name_to_63_characters_and_no_more(cluster, room):
    assert JobSpec.read({**PI, "clusterId": cluster, "submissionIdSuffix": "s" * room})
    told = refused({**PI, "clusterId": cluster, "submissionIdSuffix": "s" * (room + 1)})
    assert f"expected at most {room} characters beside" in line(told, "submissionIdSuffix")
    longest = f"{cluster or 'c' * CLUSTER_ID_ALLOWANCE}-{'0' * 32}-{'s' * room}-driver"
    assert len(longest) == 63


def test_a_mount_of_a_volume_that_the_request_lacks_is_refused():
    spec = with_(
        "driver.volumeMounts", [{"name": "scratch", "mountPath": "/a"}, {"name": "data", "mountPath": "/b"}], FULL
    )
    told = line(refused(spec), "driver.volumeMounts[1].name")
    assert "expected one of volumes (scratch, settings); found 'data'" in told
    assert JobSpec.read({key: value for key, value in spec.items() if key != "volumes"})  # the cluster may have it
