"""``python -m pvfast`` is the `pvfast` command."""

from pvfast.cli import main

main()
