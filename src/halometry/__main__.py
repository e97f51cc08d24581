"""`python -m halometry` is the command `halometry`."""

from halometry.cli import main

main()
