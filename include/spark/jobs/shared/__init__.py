"""What jobs share. It runs on the clusters, so it may import PySpark and the standard library only."""
