"""What the catalog (Amazon DataZone) gets: lineage, and the proof that it got it."""
