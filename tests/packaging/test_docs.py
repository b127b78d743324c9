"""Documentation that can drift is generated or checked."""

from __future__ import annotations

import json
import re

import pytest

from bench.__main__ import BENCHMARKS as RUN
from include.local.docs import BENCHMARKS, HELD, benchmarks, replace_part


@pytest.mark.parametrize("name", sorted(HELD))
def test_a_generated_part_is_fresh(project_root, name):
    file, render = HELD[name]
    text = (project_root / file).read_text(encoding="utf-8")
    assert replace_part(text, name, render(project_root)) == text, "run `make docs`"


def test_readme_shows_every_benchmark():
    assert set(RUN) == set(BENCHMARKS)


def test_a_benchmark_that_was_run_gets_its_row_and_another_keeps_the_one_it_had(tmp_path):
    (tmp_path / "README.md").write_text(
        "| `parse` | old | 1 s | 2 s (nothing) | 0.50 |\n| `gate` | old | 1 s | 2 s (nothing) | 0.50 |\n"
    )
    (tmp_path / "build" / "bench").mkdir(parents=True)
    told = {
        "name": "gate",
        "what": "new",
        "median": 3,
        "unit": "s",
        "baseline_median": 4,
        "baseline": "it",
        "ratio": 0.75,
    }
    (tmp_path / "build" / "bench" / "gate.json").write_text(json.dumps(told))
    rows = benchmarks(tmp_path).splitlines()[2:]
    assert rows == ["| `gate` | new | 3 s | 4 s (it) | 0.75 |", "| `parse` | old | 1 s | 2 s (nothing) | 0.50 |"]


def documents(root):
    found = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    assert len(found) > 3
    return found


def test_every_link_of_the_documentation_leads_somewhere(project_root):
    missing = [
        (str(path.relative_to(project_root)), target)
        for path in documents(project_root)
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8"))
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert not missing


def test_every_make_command_that_is_named_exists(project_root):
    makefile = (project_root / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = {
        name
        for path in documents(project_root)
        for name in re.findall(r"`make ([a-z-]+)", path.read_text(encoding="utf-8"))
    }
    assert named
    assert named <= targets


def test_every_dependency_is_explained(project_root):
    explained = (project_root / "docs" / "dependencies.md").read_text(encoding="utf-8")
    files = [path.name for path in project_root.glob("requirements*.txt")]
    assert len(files) > 3
    for file in files:
        for line in (project_root / file).read_text(encoding="utf-8").splitlines():
            name = re.match(r"[A-Za-z0-9-]+", line)
            if name and not line.startswith("-r"):
                known = name[0] in explained or (name[0].startswith("types-") and "types-*" in explained)
                assert known, f"{name[0]} of {file} is not explained in docs/dependencies.md"
