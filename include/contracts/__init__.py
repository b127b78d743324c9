"""Data contracts (ODCS): load, validate, compile to checks."""
