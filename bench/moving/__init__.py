"""Tenants of a SaaS of one's own that are moved while they are used, well and badly."""
