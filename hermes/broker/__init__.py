"""The broker: topics, groups and leases on one log.

| folder, file | its idea |
|---|---|
| ``wire/`` | the protocol: frames around messages of protobuf |
| ``machine/`` | what the broker knows and decides: commands in, replies out; pure |
"""
