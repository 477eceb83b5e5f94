"""The sink that posts signed batches to any URL, another Hermes's POST /events among them.

``sink`` sends, ``settings`` declares, ``signature`` signs, ``answers`` says what an answer means. Batches are cut and
bad events are found by `hermes_sinks.common.parts`; httpx is behind `hermes.kit.http`.
"""

from hermes import SinkPlugin
from hermes_sinks.http.settings import HttpSettings
from hermes_sinks.http.sink import HttpSink, check_http, open_http

__all__ = ["HttpSettings", "HttpSink", "check_http", "open_http", "plugin"]

plugin = SinkPlugin(open_http, HttpSettings, summary="signed batches posted to any URL", check=check_http)
