"""The state and decisions of the broker: commands in, replies out. No file reads a clock, a payload or the network.

| file | its idea |
|---|---|
| ``commands`` | the commands, and the entry of the log that carries them |
| ``machine`` | applies and answers each command |
| ``topic`` | a topic: messages, groups, window, limits |
| ``messages`` | the retained messages of a topic: a few bytes each, no payload |
| ``offsets`` | the offsets of one priority |
| ``dedup`` | the last keys of producers |
| ``group`` | a group: which messages are done, leased or waiting, and which a poll takes |
| ``states`` | the states of a message for one group, as a table |
| ``attempts`` | how often an attempt at a message failed |
| ``behind`` | messages behind an older one of their key |
| ``scheduled`` | messages that enter their topic later |
| ``done`` | the done offsets: a watermark, and blocks above |
| ``leases`` | the leases, and when each ends |
| ``waiting`` | the messages that may be delivered: returned ones and fresh ones |
| ``freeze`` | the topics of one moment, while the machine goes on |
| ``pieces`` | the format of a snapshot |
| ``snapshot`` | the whole state as bytes, and back |
"""
