"""The tests. Each states a claim in its name."""
