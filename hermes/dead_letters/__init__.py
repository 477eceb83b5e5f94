"""Dead letters: events that a sink refused for good, and bodies that another part could not hand over.

| file | idea |
|---|---|
| ``contract`` | a letter, a selection of letters, and what a store promises |
| ``evictions`` | how many letters left for want of room, by source; pure |
| ``memory``   | the store in memory, for DURABILITY=memory |
| ``rows``     | a letter as a row of a table, for the durable stores; pure |
| ``sqlite``   | one file, which the service and ``hermes dlq`` use at the same time |
| ``postgres`` | a table that all instances share; needs the Postgres driver |
| ``tables``   | the tables of the durable stores, and their upgrades |
| ``replay``   | sending letters to their sources again |
| ``view``     | how the letters of a part are shown; pure |
| ``settings`` | the settings of the part |
| ``part``     | the declaration of the part |
| ``opening``  | opens the part: the store, the endpoints, the section of the dashboard |
| ``desk``     | the store and where letters are replayed to, for the parts that own letters |
| ``http``     | the endpoints of operators |
| ``parameters`` | the parameters of these endpoints, checked |
| ``openapi``  | the description of these endpoints |
| ``notation`` | how letters are asked for and shown, on the command line and over HTTP; pure |
"""

from hermes.dead_letters.contract import DeadLetter, DeadLetters, Selection, Source
from hermes.dead_letters.memory import MemoryDeadLetters

__all__ = ["DeadLetter", "DeadLetters", "MemoryDeadLetters", "Selection", "Source"]
