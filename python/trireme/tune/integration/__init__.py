"""Bridges from other libraries to a search."""
