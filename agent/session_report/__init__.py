"""What a saved session came to: its context and its dollars over the run, its compressions, what was dearest in it."""
