"""Aurora zero-ETL integrations: connecting one, judging its health, and waking DAGs when it has replicated more."""
