"""`aloop sessions`: the runs that were kept, and what can be done with them."""
