"""A driver's process: it fetches files, becomes spark-submit and keeps the exit status.

``python -m include.local.batch_gateway.driver FOLDER``, as the operator starts it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import psutil

from include.local.batch_gateway.spark import EXIT_FILE, RUN_FILE, STARTED_FILE
from include.local.batch_gateway.uploads import Uploads

_SCRIPT = (
    'exit_file=$1; shift; "$@"; code=$?; echo $code >"$exit_file.new"; mv "$exit_file.new" "$exit_file"; exit $code'
)


def begin(run: Path, ui_port: int | None) -> bool:
    """Whether this is the first process of the run: an operator that was killed may have started one that nobody knows of."""
    me = psutil.Process()
    new = run / f"{STARTED_FILE}.{me.pid}"
    new.write_text(json.dumps({"pid": me.pid, "created": me.create_time(), "ui_port": ui_port}), encoding="utf-8")
    try:
        os.link(new, run / STARTED_FILE)
    except FileExistsError:
        return False
    finally:
        new.unlink()
    return True


def fetch(plan: dict[str, Any]) -> None:
    """Get the files that are in S3."""
    uploads = Uploads(plan["aws"])
    for url, path in plan["fetch"]:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        uploads.fetch(url, Path(path))


def main(run: Path) -> int:
    """Run the driver in this process."""
    plan = json.loads((run / RUN_FILE).read_text(encoding="utf-8"))
    if not begin(run, plan["ui_port"]):
        return 0
    try:
        fetch(plan)
    except Exception as error:
        print(f"can't fetch the application's files: {error}", flush=True)
        (run / EXIT_FILE).write_text("1", encoding="ascii")
        return 1
    os.chdir(run)
    os.execve("/bin/sh", ["sh", "-c", _SCRIPT, "sh", str(run / EXIT_FILE), *plan["command"]], plan["environ"])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
