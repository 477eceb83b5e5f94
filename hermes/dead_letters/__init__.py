"""Dead letters: where an event goes that a sink refused for good.

| file | idea |
|---|---|
| ``contract`` | a letter, a selection of letters, and what a store promises |
| ``evictions`` | how many letters left for want of room, and whose they were; pure |
| ``memory``   | the last ones, in memory: what DURABILITY=memory affords |
| ``rows``     | a letter as a row of a table, for the durable stores; pure |
| ``sqlite``   | one file, which the service and ``hermes dlq`` use at the same time |
| ``postgres`` | a table that all instances share; imported by whoever has the driver |
| ``replay``   | sending letters to their sinks again |
| ``notation`` | how letters are asked for and shown, on the command line and over HTTP; pure |
"""

from hermes.dead_letters.contract import DeadLetter, DeadLetters, Selection
from hermes.dead_letters.memory import MemoryDeadLetters

__all__ = ["DeadLetter", "DeadLetters", "MemoryDeadLetters", "Selection"]
