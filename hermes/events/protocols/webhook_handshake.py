"""The handshake by which a service asks for permission to deliver CloudEvents.

The service asks by OPTIONS before the first event, and again from time to time. Invariant: every sender may deliver, at
any rate; keys and room are judged with each event.
Source: CloudEvents' "HTTP 1.1 Web Hooks for Event Delivery" §4.
"""

from __future__ import annotations

import re

_ORIGIN = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}")


def agree_to_webhook(sender: str) -> dict[str, str]:
    """The headers that allow the sender named in ``WebHook-Request-Origin``, or any sender if that is no host name.

    >>> agree_to_webhook("eventgrid.azure.net")["WebHook-Allowed-Origin"]
    'eventgrid.azure.net'
    """
    # The name is repeated in a header, so only the characters of a host pass.
    allowed = sender if _ORIGIN.fullmatch(sender) else "*"
    # An asterisk as the rate sets no limit (§4.2).
    return {"Allow": "POST, OPTIONS", "WebHook-Allowed-Origin": allowed, "WebHook-Allowed-Rate": "*"}
