"""``python -m hermes``: the command line."""

from hermes.cli import main

main(prog_name="hermes")
