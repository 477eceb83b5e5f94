"""The kit of the command line: what every command is made of, whichever part brings it.

- ``program``, ``manual``, ``help``, ``completion``, ``mistakes``: the root, the help pages, and a wrong command line
- ``operator``, ``values``, ``strays``: what commands share: settings, options, variables without effect
- ``tables``, ``client``: tables for a terminal; the client of a running Hermes
"""
