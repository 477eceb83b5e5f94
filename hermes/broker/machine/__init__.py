"""What the broker knows and decides: commands in, replies out. Nothing here reads a clock, a payload or the network.

| file | its idea |
|---|---|
| ``commands`` | the commands, and the entry of the log that carries them |
| ``machine`` | applies each command, and answers it |
| ``topic`` | a topic: messages, groups, window, limits |
| ``messages`` | what a topic retains: a few bytes a message, no payload |
| ``dedup`` | the last keys of producers |
| ``group`` | a group: which messages are done, leased, returned or fresh, and which a poll takes |
| ``done`` | the done offsets: a watermark, and ranges above it |
| ``snapshot`` | the whole state as bytes |
"""
