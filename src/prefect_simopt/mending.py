"""A flipped bit in a line of the ledger, found and flipped back; the chain then proves that it was that one.

A CRC is linear: what a line's checksum is off by depends only on which bit is wrong, so the bit is found by running the
checksum backwards over the line, once.
"""

import hashlib
import re
import zlib
from collections.abc import Iterator

from prefect_simopt.ledger import decode_line

__all__ = ["mend"]

_TAIL = len(b',"crc":"00000000"}')
_POLYNOMIAL = 0xEDB88320  # CRC-32 of zlib, bits reversed
_JOINT = re.compile(rb'\}(.)\{"seq":', re.DOTALL)
_LINE_END = ord("\n")


def mend(raw: bytes, follows: str | None) -> bytes | None:
    """The line as it was before one bit of it, or of its end, was flipped.

    Args:
        raw: the damaged line; two lines, when the end between them was flipped.
        follows: SHA-256 that the next record gives for the line before it; None when there is no next record.

    Returns:
        The line or lines, without the last line's end; None when more than one bit is wrong.
    """
    for candidate in _candidates(raw):
        lines = candidate.split(b"\n")
        whole = all(decode_line(line) is not None for line in lines)
        if whole and follows in (None, hashlib.sha256(lines[-1]).hexdigest()):
            return candidate
    return None


def _candidates(raw: bytes) -> Iterator[bytes]:
    for match in _JOINT.finditer(raw):
        if _one_bit_off(match[1][0]):
            yield raw[: match.start(1)] + b"\n" + raw[match.end(1) :]
    if raw and _one_bit_off(raw[-1]):
        yield raw[:-1]
    for position in range(max(len(raw) - _TAIL, 0), len(raw)):
        for bit in range(8):
            yield _flipped(raw, position, bit)
    text, tail = raw[:-_TAIL], raw[-_TAIL:]
    if (stored := re.fullmatch(rb',"crc":"([0-9a-f]{8})"\}', tail)) is not None:
        found = _wrong_bit(text, int(stored[1], 16))
        if found is not None:
            yield _flipped(raw, *found)


def _one_bit_off(byte: int) -> bool:
    return (byte ^ _LINE_END).bit_count() == 1


def _flipped(raw: bytes, position: int, bit: int) -> bytes:
    return raw[:position] + bytes([raw[position] ^ (1 << bit)]) + raw[position + 1 :]


def _wrong_bit(text: bytes, checksum: int) -> tuple[int, int] | None:
    """Position and bit whose flip gives the text this CRC-32; None when there is none."""
    table = [_shifted(byte) for byte in range(256)]
    by_top = {entry >> 24: index for index, entry in enumerate(table)}
    single = {table[1 << bit]: bit for bit in range(8)}
    state = zlib.crc32(text) ^ checksum
    for position in range(len(text) - 1, -1, -1):
        if state in single:
            return position, single[state]
        index = by_top[state >> 24]
        state = ((state ^ table[index]) << 8 | index) & 0xFFFFFFFF
    return None


def _shifted(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte
