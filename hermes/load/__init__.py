"""`hermes load`: the built-in load generator, for a first try and for the benchmarks.

Reading order: ``options`` (what to send), ``payload`` (the bytes), ``schedule`` (when), ``response`` (what comes
back), ``connection`` and ``client`` (the loop), ``tally`` and ``histogram`` (what is counted), ``report`` and
``command`` (what a person sees). Nothing outside ``hermes.cli`` and the benchmarks imports it.
"""
