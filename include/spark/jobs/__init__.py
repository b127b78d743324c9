"""One file per Spark job; what it imports from here travels with it."""
