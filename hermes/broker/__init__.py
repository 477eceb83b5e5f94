"""The broker: topics, groups and leases on one log.

| folder, file | its idea |
|---|---|
| ``wire/`` | the protocol: frames around messages of protobuf |
| ``machine/`` | what the broker knows and decides: commands in, replies out; pure |
| ``tcp/`` | the server: connections, requests, subscriptions |
| ``http/`` | the broker over HTTP and JSON, for clients and for operators |
| ``node`` | whether this node leads, and how its cluster is formed |
| ``parked_poll`` | one poll: answered at once, or later |
| ``sequencer`` | puts all commands into one order: log, machine, answers |
| ``command_queue`` | the commands that wait for their entry of the log |
| ``demand`` | who waits for messages, in turn |
| ``turns`` | for which of them an entry polls |
| ``rate_limit`` | how many messages of a topic may be delivered now |
| ``payloads`` | the payloads: the latest in memory, the others in the log |
| ``burial``, ``letters`` | dead letters: to the store of all parts, back from there, and how they are shown |
| ``why`` | why a group gets nothing, in a sentence |
| ``keeper`` | snapshots, and the trim of the log |
| ``opening`` | the state out of the log, and the tasks |
| ``running`` | the broker inside the service, with its endpoints |
| ``part``, ``settings``, ``metrics`` | the broker as a part of the service |
| ``daemon``, ``daemon_http`` | ``hermesmqd``: the broker alone |
"""
