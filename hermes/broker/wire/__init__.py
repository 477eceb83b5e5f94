"""The HermesMQ protocol on the wire: frames around messages of protobuf.

| file | its idea |
|---|---|
| ``hermesmq.proto`` | the messages |
| ``hermesmq_pb2`` | the same as Python, made by ``scripts/protobuf`` |
| ``frames`` | a stream of bytes as frames |

Server and client both stand on this folder, and this folder stands on neither.
"""
