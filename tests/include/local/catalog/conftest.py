import json
import uuid

import pytest

from include.local.catalog.trial import trial_catalog


@pytest.fixture(scope="session")
def served():
    with trial_catalog() as catalog:
        yield catalog


@pytest.fixture(scope="session")
def served_client(served):
    return served.client()


class Caller:
    """boto3's client, always of the one domain."""

    def __init__(self, client, domain_id):
        self._client, self._domain_id = client, domain_id
        self.exceptions = client.exceptions

    def __getattr__(self, operation):
        def call(**arguments):
            answer = getattr(self._client, operation)(**{"domainIdentifier": self._domain_id} | arguments)
            answer.pop("ResponseMetadata")
            return answer

        return call


@pytest.fixture
def catalog(served):
    served.reset()
    yield served
    served.service.lineage.seconds = 0.0


@pytest.fixture
def client(catalog, served_client):
    return Caller(served_client, catalog.domain_id)


def run_event(*, job="job", inputs=(), outputs=(), time="2026-01-31T08:30:00Z", run_id=None, state="COMPLETE"):
    """A run event; datasets are names, or pairs of a name and the columns' lineage: ``{"to": [("dataset", "from")]}``."""

    def dataset(entry):
        name, columns = entry if isinstance(entry, tuple) else (entry, {})
        fields = {
            column: {"inputFields": [{"namespace": "ns", "name": name, "field": field} for name, field in sources]}
            for column, sources in columns.items()
        }
        return {"namespace": "ns", "name": name, "facets": {"columnLineage": {"fields": fields}} if fields else {}}

    return {
        "eventType": state,
        "eventTime": time,
        "run": {"runId": run_id or str(uuid.uuid4())},
        "job": {"namespace": "jobs", "name": job},
        "inputs": [dataset(entry) for entry in inputs],
        "outputs": [dataset(entry) for entry in outputs],
    }


@pytest.fixture
def post(client):
    def send(event=None, token=None, **fields):
        event = run_event(**fields) if event is None else event
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        return client.post_lineage_event(event=body, clientToken=token or str(uuid.uuid4()))["id"]

    return send


def view_forms(relation="rpt_top", source=None, **more):
    """The forms of a view's asset."""
    content = {
        "viewName": relation,
        "databaseName": "dev",
        "schemaName": "finance",
        "storageType": "SERVERLESS",
        "redshiftStorage": {"redshiftServerlessSource": {"workgroupName": "wg"}},
    }
    details = {"sourceIdentifier": source} if source else {}
    return [
        {"formName": "RedshiftViewForm", "content": json.dumps(content | more)},
        {"formName": "AssetCommonDetailsForm", "content": json.dumps(details)},
    ]


@pytest.fixture
def view(client, catalog):
    def create(relation="rpt_top", *, source=None, external=None, **arguments):
        wanted = {
            "name": relation,
            "typeIdentifier": "amazon.datazone.RedshiftViewAssetType",
            "owningProjectIdentifier": catalog.project_id,
            "formsInput": view_forms(relation, source),
        }
        return client.create_asset(**wanted | ({"externalIdentifier": external} if external else {}) | arguments)

    return create
