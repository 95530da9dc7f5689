"""Recorded conversations under several policies: what each would have cost, and what it would have kept."""
