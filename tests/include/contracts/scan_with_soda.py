"""Runs in the warehouse environment: scan each job's DuckDB file and print one line of JSON."""

import json
import sys

import yaml
from soda.sampler.sampler import Sampler
from soda.scan import Scan


class Samples(Sampler):
    def __init__(self):
        self.taken = {}

    def store_sample(self, sample_context):
        columns = [column.name for column in sample_context.sample.get_schema().columns]
        rows = [[str(value) for value in row] for row in sample_context.sample.get_rows()]
        self.taken[sample_context.check_name] = (columns, rows)


def scan(job):
    one, samples = Scan(), Samples()
    one.set_data_source_name("warehouse")
    one.set_scan_definition_name("trial")
    source = {"type": "duckdb", "path": job["path"], "schema": job["schema"], "read_only": True}
    one.add_configuration_yaml_str(yaml.safe_dump({"data_source warehouse": source}))
    one.sampler = samples
    checks = {}
    for check in job["checks"]:
        checks.setdefault(f"checks for {check['relation']}", []).append(check["sodacl"])
    one.add_sodacl_yaml_str(yaml.safe_dump(checks))
    one.execute()
    if one.has_error_logs():
        sys.exit(one.get_error_logs_text())
    results = {}
    for check in one._checks:
        columns, rows = samples.taken.get(check.name, ([], []))
        outcome = check.outcome and check.outcome.value
        results[check.name] = {"outcome": outcome, "value": check.check_value, "columns": columns, "rows": rows}
    return results


with open(sys.argv[1]) as file:
    scans = [scan(job) for job in json.load(file)]
sys.stdout.write("\n" + json.dumps(scans) + "\n")
