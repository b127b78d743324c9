"""TICKIT, the ticket marketplace of the AWS post: its schema, a generator and a loader of its files."""
