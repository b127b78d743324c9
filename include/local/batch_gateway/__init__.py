"""A stand-in of the Batch Processing Gateway, and of the Spark operators of the clusters behind it."""
