"""What Amazon MWAA takes: the package (`package`), its wheels (`wheels`), the startup script, and the configuration options (`options`)."""
