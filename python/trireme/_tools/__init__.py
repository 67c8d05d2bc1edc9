"""The `trireme` command's tools, and rank 0's side of them."""
