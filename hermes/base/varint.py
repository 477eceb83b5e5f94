"""Numbers as protobuf writes them. Pure. Source: protobuf's wire format, base 128 varints."""

from __future__ import annotations


def varint(value: int) -> bytes:
    r"""A whole number from 0 on, seven bits a byte, the lowest first.

    >>> varint(300)
    b'\xac\x02'
    """
    out = bytearray()
    while value > 0x7F:
        # The high bit of a byte says that another byte follows.
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
