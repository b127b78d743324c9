"""The quality gate: run a contract's checks, judge them, keep the evidence."""
