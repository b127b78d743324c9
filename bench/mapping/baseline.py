"""Run one of the per-event mappers over files: ``python -m bench.mapping.baseline interpreter|closures SOURCE OUT FILE…``.

Prints the events it wrote and the processor seconds that mapping and writing took, without the start of Python.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from include.ingestion.sources import load_source


def main(arguments: list[str]) -> None:
    how, source, out, *files = arguments
    if how == "interpreter":
        from bench.mapping.interpreter import Interpreter

        mapper = Interpreter(source)
    else:
        from bench.mapping.per_event import PerEventMapper

        mapper = PerEventMapper(load_source(source).folder)
    events = 0
    began = time.perf_counter()
    for place, file in enumerate(files):
        folder = Path(out) / str(place)
        folder.mkdir(parents=True)
        found = mapper.map_file(Path(file), folder)
        events += found if isinstance(found, int) else found["written"]
    sys.stdout.write(json.dumps({"events": events, "seconds": time.perf_counter() - began}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
