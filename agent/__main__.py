"""`python -m agent`: the command `aloop`."""

from .cli import main

main()
