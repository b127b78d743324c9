"""Spark jobs: their code, and how they get to where the clusters read them."""
