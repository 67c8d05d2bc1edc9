"""How a search is run."""
