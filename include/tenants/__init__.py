"""Tenant portability: move a tenant of the serverless SaaS application to another tier while it is being used."""
