"""Reads stats-dump and stats-restore: two magic numbers, a length, and one small protobuf message."""
import struct

_DUMP = {1: "freezing_time", 2: "frozen_time", 3: "memdump_time", 4: "memwrite_time", 5: "pages_scanned", 7: "pages_written"}
_RESTORE = {1: "pages_compared", 2: "pages_skipped_cow", 3: "forking_time", 4: "restore_time", 5: "pages_restored"}


def _varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7


def _fields(data):
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        if key & 7 == 0:
            value, at = _varint(data, at)
        elif key & 7 == 2:
            length, at = _varint(data, at)
            value, at = data[at:at + length], at + length
        else:
            raise ValueError(f"field {key >> 3} has an unexpected type {key & 7}")
        yield key >> 3, value


def read(path):
    """{name: number}; times are in microseconds."""
    data = path.read_bytes()
    magic, kind, length = struct.unpack_from("<III", data)
    if (magic, kind) != (0x55105940, 0x57093306):
        raise ValueError(f"{path} is no statistics file")
    for number, message in _fields(data[12:12 + length]):
        names = {1: _DUMP, 2: _RESTORE}.get(number, {})
        return {names[field]: value for field, value in _fields(message) if field in names}
    return {}
