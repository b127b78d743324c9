"""The command line: what the supervisor starts, asks for health and stops."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from include.local.aurora.__main__ import main, seed
from include.local.aurora.source import Aurora
from tests.include.local.aurora.aurora_harness import read_published, wait_until

ROOT = Path(__file__).resolve().parents[4]


def command(directory, *arguments):
    places = ["--home", str(directory / "aurora"), "--zero-etl", str(directory / "zero_etl")]
    return [sys.executable, "-m", "include.local.aurora", *places, *arguments]


@contextmanager
def served(directory, *arguments):
    """The command at work; yields its URL. It must end with status 0 on SIGTERM."""
    process = subprocess.Popen(
        command(directory, "--port", "0", *arguments), cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        yield next(found[1] for line in process.stdout if (found := re.search(r"ready on (http://[^;]+)", line)))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def health(url):
    with urllib.request.urlopen(url + "/health") as response:
        return json.load(response)


def test_it_seeds_serves_stops_and_resumes(tmp_path):
    with served(tmp_path, "--tickit", "small") as url:
        assert health(url) == {"status": "ok", "error": None, "state": "PendingDbConnectState"}
        assert not list((tmp_path / "zero_etl").glob("aurora_*"))
    with served(tmp_path, "--auto-connect") as url:
        wait_until(lambda: health(url)["state"] == "CdcRefreshState")
        assert read_published(tmp_path / "zero_etl", "SELECT count(*) FROM demodb.sales") == [(1_800,)]
    with Aurora(tmp_path / "aurora").transaction() as connection:
        connection.execute("DELETE FROM sales WHERE salesid > 1000")
    with served(tmp_path):
        active = "SELECT count(*) FROM demodb.sales WHERE _record_is_active"
        wait_until(lambda: read_published(tmp_path / "zero_etl", active) == [(1_000,)])


def test_a_database_with_rows_is_not_seeded(tmp_path):
    aurora = Aurora(tmp_path)
    seed(aurora, "small", 1)
    with aurora.transaction() as connection:
        connection.execute("DELETE FROM sales")
    seed(aurora, "small", 1)
    assert not aurora.is_empty()
    with aurora.transaction() as connection:
        assert connection.execute("SELECT count(*) FROM sales").fetchone() == (0,)


def test_a_taken_port_ends_it_with_a_sentence(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            command(tmp_path, "--port", str(port)), cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
        )
    assert done.returncode == 1
    assert f"port {port} on 127.0.0.1: expected it free, found it taken" in done.stderr


def test_the_workload_command_writes(tmp_path, capsys):
    arguments = ["workload", "--home", str(tmp_path), "--writes-per-second", "100", "--seconds", "0.3"]
    assert main(arguments) == 1
    assert "expected listings and users, found none" in capsys.readouterr().err
    seed(Aurora(tmp_path), "small", 1)
    assert main(arguments) == 0
    assert re.search(r"[1-9]\d* inserts, \d+ updates, \d+ deletes", capsys.readouterr().out)
    with pytest.raises(SystemExit):
        main(["workload", "--writes-per-second", "fast"])
