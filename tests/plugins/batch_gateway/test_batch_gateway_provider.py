"""The connection type and its form in Airflow's UI, wherever plugins/ comes onto the path."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from airflow.sdk import Connection

from data_platform.batch_gateway import config, links
from data_platform.batch_gateway.hook import BatchGatewayHook
from data_platform.batch_gateway.provider import CONNECTION_TYPE, DISTRIBUTION, get_provider_info
from include.local.mwaa import package
from include.platform.paths import PROJECT_ROOT

PROBE = Path(__file__).with_name("_provider_probe.py")
PLUGINS = PROJECT_ROOT / "plugins"


def seen(gateway, home, python_path, *how, **configuration):
    """What the API server of a clean process shows; ``http``: to a browser, as it shows the same everywhere else."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "PYTHON"))}
    environ |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "AIRFLOW__API_AUTH__JWT_SECRET": "a-secret-for-this-test-that-is-long-enough-for-hs512-signatures-0123456789",
        "PYTHONPATH": python_path,
        "PYTHONDONTWRITEBYTECODE": "1",
        **configuration,
    }
    done = subprocess.run(
        [sys.executable, str(PROBE), gateway.url, *how], env=environ, cwd=home.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def on_a_laptop(one_gateway, tmp_path_factory):
    home = tmp_path_factory.mktemp("laptop") / "home"
    return seen(one_gateway, home, str(PLUGINS), AIRFLOW__CORE__PLUGINS_FOLDER=str(PLUGINS))


@pytest.fixture(scope="module")
def on_astro(one_gateway, tmp_path_factory):
    """The project's folder is Airflow's home and on the path; plugins/ is put there by Airflow."""
    home = tmp_path_factory.mktemp("astro") / "airflow"
    home.mkdir()
    (home / "plugins").symlink_to(PLUGINS)
    return seen(one_gateway, home, str(home))


@pytest.fixture(scope="module")
def mwaa_home(tmp_path_factory):
    """Airflow's home with what plugins.zip holds but the wheels; PYTHONPATH is MWAA's own."""
    place = tmp_path_factory.mktemp("mwaa")
    package._zip(place / "plugins.zip", PLUGINS, {}, {})
    with zipfile.ZipFile(place / "plugins.zip") as archive:
        archive.extractall(place / "airflow" / "plugins")
    return place / "airflow"


@pytest.fixture(scope="module")
def on_mwaa(one_gateway, mwaa_home):
    return seen(one_gateway, mwaa_home, "/python", "http")


@pytest.fixture(params=["on_a_laptop", "on_astro", "on_mwaa"])
def place(request):
    return request.getfixturevalue(request.param)


def test_the_form_is_in_the_ui(place):
    [form] = place["forms"]
    assert form["hook_name"] == "Batch Processing Gateway"
    assert list(form["extra_fields"]) == list(get_provider_info()["connection-types"][0]["conn-fields"])
    assert form["extra_fields"]["queue_token"]["schema"]["format"] == "password"
    assert form["extra_fields"]["base_path"]["value"] == "/skatev2"
    assert form["standard_fields"]["url_schema"]["hidden"] is True
    assert form["standard_fields"]["login"]["title"] == "User"
    assert place["import_errors"] == []


def test_the_provider_is_listed_once_with_the_version_of_its_dist_info(place):
    [provider] = place["providers"]
    assert provider["version"] == distribution(DISTRIBUTION).version


def test_a_connection_finds_its_hook(place):
    assert place["hook"] == "data_platform.batch_gateway.hook.BatchGatewayHook"


def test_the_test_button_asks_the_gateway(place):
    assert place["tested"]["status"] is True, place["tested"]
    assert re.search(
        r"The gateway at http://127\.0\.0\.1:\d+/skatev2 answers; it lists \d+ jobs", place["tested"]["message"]
    )


def test_only_the_laptop_has_plugins_on_the_path_before_airflow(on_a_laptop, on_astro, on_mwaa):
    """Else the test of the other two would be that of the laptop."""
    assert [each["on_path_at_first"] for each in (on_a_laptop, on_astro, on_mwaa)] == [True, False, False]


def test_what_the_routes_call_is_what_a_browser_is_told(on_mwaa, on_a_laptop):
    """Else only the place that is asked over HTTP would be tested."""
    told = [{key: value for key, value in each.items() if key != "on_path_at_first"} for each in (on_mwaa, on_a_laptop)]
    for each in told:
        each["tested"] = each["tested"]["status"]
    assert told[0] == told[1]


def test_without_the_registration_the_form_would_be_missing(one_gateway, mwaa_home, tmp_path):
    """The day this fails, Airflow looks for providers in plugins/ itself, and the registration can go."""
    home = tmp_path / "airflow"
    shutil.copytree(mwaa_home / "plugins", home / "plugins")
    (home / "plugins" / "data_platform" / "batch_gateway" / "registration.py").unlink()

    found = seen(one_gateway, home, "/python")

    assert found["known_forms"] > 1
    assert found["forms"] == []


def test_the_dist_info_says_what_the_provider_says():
    found = distribution(DISTRIBUTION)
    [entry] = [each for each in found.entry_points if each.group == "apache_airflow_provider"]
    assert Path(str(found.locate_file(""))).resolve() == PLUGINS
    assert entry.load()()["package-name"] == found.metadata["Name"] == DISTRIBUTION


def test_every_field_has_a_label_and_says_what_it_is():
    [kind] = get_provider_info()["connection-types"]
    assert kind["connection-type"] == CONNECTION_TYPE
    assert kind["conn-fields"]
    for name, field in kind["conn-fields"].items():
        assert field["label"], name
        assert field["description"].endswith("."), name
        assert "null" in field["schema"]["type"], f"{name}: the form would not take an empty value"


def test_the_form_has_every_extra_that_the_hook_reads_and_no_other():
    [kind] = get_provider_info()["connection-types"]
    assert set(kind["conn-fields"]) == set(config._EXTRA)


def test_what_the_form_saves_as_it_opens_is_what_the_hook_assumes_without_it():
    def read(extra):
        connection = Connection(
            conn_id="gateway", conn_type="batch_gateway", host="h", login="u", extra=json.dumps(extra)
        )
        return config.GatewayConfig.from_connection(connection)

    [kind] = get_provider_info()["connection-types"]
    saved = {name: field["schema"].get("default") for name, field in kind["conn-fields"].items()}

    assert read(saved) == read({})


def test_the_hook_is_the_one_of_the_connection_type():
    assert (BatchGatewayHook.conn_type, BatchGatewayHook.hook_name) == (CONNECTION_TYPE, "Batch Processing Gateway")


def test_every_link_is_one_of_the_package():
    names = [name.rpartition(".") for name in get_provider_info()["extra-links"]]
    assert {(module, name) for module, _, name in names} == {
        (type(each).__module__, type(each).__name__) for each in links.LINKS
    }
