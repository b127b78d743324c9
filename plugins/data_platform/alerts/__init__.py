"""Telling people that something failed or is late, behind one interface."""
