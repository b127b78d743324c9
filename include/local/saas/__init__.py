"""A small SaaS to move tenants in: the reference application's tables, pools, plans and keys, an API, and load on it."""
