from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Request(_message.Message):
    __slots__ = ("produce", "poll", "ack", "nack", "commit", "create_topic", "delete_topic", "stats", "bootstrap", "set_rate_limit", "set_retention", "subscribe", "auth")
    PRODUCE_FIELD_NUMBER: _ClassVar[int]
    POLL_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    NACK_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    CREATE_TOPIC_FIELD_NUMBER: _ClassVar[int]
    DELETE_TOPIC_FIELD_NUMBER: _ClassVar[int]
    STATS_FIELD_NUMBER: _ClassVar[int]
    BOOTSTRAP_FIELD_NUMBER: _ClassVar[int]
    SET_RATE_LIMIT_FIELD_NUMBER: _ClassVar[int]
    SET_RETENTION_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBE_FIELD_NUMBER: _ClassVar[int]
    AUTH_FIELD_NUMBER: _ClassVar[int]
    produce: Produce
    poll: Poll
    ack: Ack
    nack: Nack
    commit: Commit
    create_topic: CreateTopic
    delete_topic: DeleteTopic
    stats: Stats
    bootstrap: Bootstrap
    set_rate_limit: SetRateLimit
    set_retention: SetRetention
    subscribe: Subscribe
    auth: Auth
    def __init__(self, produce: _Optional[_Union[Produce, _Mapping]] = ..., poll: _Optional[_Union[Poll, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., nack: _Optional[_Union[Nack, _Mapping]] = ..., commit: _Optional[_Union[Commit, _Mapping]] = ..., create_topic: _Optional[_Union[CreateTopic, _Mapping]] = ..., delete_topic: _Optional[_Union[DeleteTopic, _Mapping]] = ..., stats: _Optional[_Union[Stats, _Mapping]] = ..., bootstrap: _Optional[_Union[Bootstrap, _Mapping]] = ..., set_rate_limit: _Optional[_Union[SetRateLimit, _Mapping]] = ..., set_retention: _Optional[_Union[SetRetention, _Mapping]] = ..., subscribe: _Optional[_Union[Subscribe, _Mapping]] = ..., auth: _Optional[_Union[Auth, _Mapping]] = ...) -> None: ...

class Response(_message.Message):
    __slots__ = ("produced", "polled", "ok", "error", "stats")
    PRODUCED_FIELD_NUMBER: _ClassVar[int]
    POLLED_FIELD_NUMBER: _ClassVar[int]
    OK_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    STATS_FIELD_NUMBER: _ClassVar[int]
    produced: Produced
    polled: Polled
    ok: Ok
    error: Error
    stats: StatsResult
    def __init__(self, produced: _Optional[_Union[Produced, _Mapping]] = ..., polled: _Optional[_Union[Polled, _Mapping]] = ..., ok: _Optional[_Union[Ok, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., stats: _Optional[_Union[StatsResult, _Mapping]] = ...) -> None: ...

class Produce(_message.Message):
    __slots__ = ("topic", "priority", "content_type", "payload", "producer_id", "seq")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    topic: str
    priority: int
    content_type: int
    payload: bytes
    producer_id: str
    seq: int
    def __init__(self, topic: _Optional[str] = ..., priority: _Optional[int] = ..., content_type: _Optional[int] = ..., payload: _Optional[bytes] = ..., producer_id: _Optional[str] = ..., seq: _Optional[int] = ...) -> None: ...

class Poll(_message.Message):
    __slots__ = ("topic", "group", "max", "visibility_timeout_ms", "ack_mode", "wait_ms")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    VISIBILITY_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    ACK_MODE_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    topic: str
    group: str
    max: int
    visibility_timeout_ms: int
    ack_mode: str
    wait_ms: int
    def __init__(self, topic: _Optional[str] = ..., group: _Optional[str] = ..., max: _Optional[int] = ..., visibility_timeout_ms: _Optional[int] = ..., ack_mode: _Optional[str] = ..., wait_ms: _Optional[int] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("topic", "group", "lease_id")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    topic: str
    group: str
    lease_id: int
    def __init__(self, topic: _Optional[str] = ..., group: _Optional[str] = ..., lease_id: _Optional[int] = ...) -> None: ...

class Nack(_message.Message):
    __slots__ = ("topic", "group", "lease_id")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    topic: str
    group: str
    lease_id: int
    def __init__(self, topic: _Optional[str] = ..., group: _Optional[str] = ..., lease_id: _Optional[int] = ...) -> None: ...

class Commit(_message.Message):
    __slots__ = ("topic", "group", "offset")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    topic: str
    group: str
    offset: int
    def __init__(self, topic: _Optional[str] = ..., group: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class CreateTopic(_message.Message):
    __slots__ = ("topic",)
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    topic: str
    def __init__(self, topic: _Optional[str] = ...) -> None: ...

class DeleteTopic(_message.Message):
    __slots__ = ("topic",)
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    topic: str
    def __init__(self, topic: _Optional[str] = ...) -> None: ...

class Stats(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Bootstrap(_message.Message):
    __slots__ = ("nodes",)
    NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    def __init__(self, nodes: _Optional[_Iterable[_Union[Node, _Mapping]]] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("id", "peer_addr")
    ID_FIELD_NUMBER: _ClassVar[int]
    PEER_ADDR_FIELD_NUMBER: _ClassVar[int]
    id: int
    peer_addr: str
    def __init__(self, id: _Optional[int] = ..., peer_addr: _Optional[str] = ...) -> None: ...

class SetRateLimit(_message.Message):
    __slots__ = ("topic", "rate_per_sec", "burst")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    RATE_PER_SEC_FIELD_NUMBER: _ClassVar[int]
    BURST_FIELD_NUMBER: _ClassVar[int]
    topic: str
    rate_per_sec: float
    burst: int
    def __init__(self, topic: _Optional[str] = ..., rate_per_sec: _Optional[float] = ..., burst: _Optional[int] = ...) -> None: ...

class SetRetention(_message.Message):
    __slots__ = ("topic", "max_messages", "max_age_ms")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    topic: str
    max_messages: int
    max_age_ms: int
    def __init__(self, topic: _Optional[str] = ..., max_messages: _Optional[int] = ..., max_age_ms: _Optional[int] = ...) -> None: ...

class Subscribe(_message.Message):
    __slots__ = ("topic", "group", "prefetch", "visibility_timeout_ms", "ack_mode")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    PREFETCH_FIELD_NUMBER: _ClassVar[int]
    VISIBILITY_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    ACK_MODE_FIELD_NUMBER: _ClassVar[int]
    topic: str
    group: str
    prefetch: int
    visibility_timeout_ms: int
    ack_mode: str
    def __init__(self, topic: _Optional[str] = ..., group: _Optional[str] = ..., prefetch: _Optional[int] = ..., visibility_timeout_ms: _Optional[int] = ..., ack_mode: _Optional[str] = ...) -> None: ...

class Auth(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: str
    def __init__(self, token: _Optional[str] = ...) -> None: ...

class Produced(_message.Message):
    __slots__ = ("offset",)
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    offset: int
    def __init__(self, offset: _Optional[int] = ...) -> None: ...

class Polled(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Delivered]
    def __init__(self, items: _Optional[_Iterable[_Union[Delivered, _Mapping]]] = ...) -> None: ...

class Delivered(_message.Message):
    __slots__ = ("lease_id", "offset", "priority", "content_type", "payload", "ts_ms")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    TS_MS_FIELD_NUMBER: _ClassVar[int]
    lease_id: int
    offset: int
    priority: int
    content_type: int
    payload: bytes
    ts_ms: int
    def __init__(self, lease_id: _Optional[int] = ..., offset: _Optional[int] = ..., priority: _Optional[int] = ..., content_type: _Optional[int] = ..., payload: _Optional[bytes] = ..., ts_ms: _Optional[int] = ...) -> None: ...

class Ok(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "leader_addr", "retry_after_ms")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    LEADER_ADDR_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    leader_addr: str
    retry_after_ms: int
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., leader_addr: _Optional[str] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class StatsResult(_message.Message):
    __slots__ = ("last_applied", "current_leader", "current_term", "last_log_index", "is_leader", "topics", "messages", "in_flight")
    LAST_APPLIED_FIELD_NUMBER: _ClassVar[int]
    CURRENT_LEADER_FIELD_NUMBER: _ClassVar[int]
    CURRENT_TERM_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    IS_LEADER_FIELD_NUMBER: _ClassVar[int]
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    last_applied: int
    current_leader: int
    current_term: int
    last_log_index: int
    is_leader: bool
    topics: int
    messages: int
    in_flight: int
    def __init__(self, last_applied: _Optional[int] = ..., current_leader: _Optional[int] = ..., current_term: _Optional[int] = ..., last_log_index: _Optional[int] = ..., is_leader: _Optional[bool] = ..., topics: _Optional[int] = ..., messages: _Optional[int] = ..., in_flight: _Optional[int] = ...) -> None: ...
