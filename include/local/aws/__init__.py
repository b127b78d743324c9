"""The AWS stand-in: moto's server, one request at a time."""
