"""`hermes load`: the built-in load generator, for a first try and for the benchmarks.

Reading order: ``options`` (what to send), ``payload`` (the bytes), ``schedule`` (when), ``response`` (what comes
back), ``connection`` and ``client`` (the loop), ``tally`` and ``histogram`` (what is counted), ``report`` (what a
person sees). The command is ``hermes.cli.load``. Nothing outside ``hermes.cli`` and the benchmarks imports it.
"""
