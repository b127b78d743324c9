"""What the mapping of logs is measured with: generated events, and a mapper that takes them one at a time."""
