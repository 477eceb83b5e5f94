"""The kit of the command line, for the commands of Hermes and of every part.

- ``program``, ``manual``, ``help``, ``completion``, ``mistakes``: the root, the help pages, and a wrong command line
- ``operator``, ``values``, ``strays``: settings, options, variables without effect
- ``tables``, ``client``: tables for a terminal; the client of a running Hermes
"""
