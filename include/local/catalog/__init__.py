"""The Amazon DataZone stand-in: one domain with the operations that the platform uses, held to the service's own model."""
