"""The local Aurora and its zero-ETL integration: an OLTP database, a replicator and the AWS interfaces to it."""
