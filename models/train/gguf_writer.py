"""A minimal writer of GGUF version 3 files (little endian, tensors aligned to 32 bytes)."""

import struct

import numpy as np

ALIGNMENT = 32
Q8_0_BLOCK = 32
F32, Q8_0 = 0, 8
TOKEN_NORMAL, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_BYTE = 1, 2, 3, 6

_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9


def quantize_q8_0(rows):
    """Quantizes float32 rows to Q8_0: blocks of 32, each a float16 scale (absmax / 127) and 32 int8."""
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    if rows.shape[-1] % Q8_0_BLOCK:
        raise ValueError("the row length %d is not a multiple of 32" % rows.shape[-1])
    blocks = rows.reshape(-1, Q8_0_BLOCK)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / 127.0
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale != 0)
    quants = np.rint(blocks * inverse).astype(np.int8)
    record = np.empty(len(blocks), dtype=[("d", "<f2"), ("qs", "i1", Q8_0_BLOCK)])
    record["d"] = scale[:, 0].astype("<f2")
    record["qs"] = quants
    return record.tobytes()


def dequantize_q8_0(data, shape):
    """The inverse of `quantize_q8_0`, as float32."""
    record = np.frombuffer(data, dtype=[("d", "<f2"), ("qs", "i1", Q8_0_BLOCK)])
    values = record["d"].astype(np.float32)[:, None] * record["qs"].astype(np.float32)
    return values.reshape(shape)


class GgufWriter:
    """Collects metadata and tensors, then writes them to a file."""

    def __init__(self):
        self.metadata = []
        self.tensors = []

    def add(self, key, value):
        """Adds one metadata entry: str, bool, int (uint32), float (float32) or a list of these.

        Integers in lists are written as int32, the type of GGUF's token types.
        """
        self.metadata.append((key, value))

    def add_tensor(self, name, array, kind):
        """Adds a tensor with the shape of a numpy array, stored as F32 or Q8_0."""
        array = np.ascontiguousarray(array, dtype=np.float32)
        data = quantize_q8_0(array) if kind == Q8_0 else array.astype("<f4").tobytes()
        self.tensors.append((name, array.shape, kind, data))

    def write(self, path):
        """Writes the file."""
        out = bytearray(b"GGUF")
        out += struct.pack("<IQQ", 3, len(self.tensors), len(self.metadata))
        for key, value in self.metadata:
            out += _string(key) + _value(value)
        offset = 0
        for name, shape, kind, data in self.tensors:
            out += _string(name) + struct.pack("<I", len(shape))
            # GGUF lists the contiguous dimension first.
            for size in reversed(shape):
                out += struct.pack("<Q", size)
            out += struct.pack("<IQ", kind, offset)
            offset += len(data) + -len(data) % ALIGNMENT
        out += bytes(-len(out) % ALIGNMENT)
        for *_, data in self.tensors:
            out += data + bytes(-len(data) % ALIGNMENT)
        with open(path, "wb") as file:
            file.write(out)


def _string(text):
    data = text if isinstance(text, bytes) else text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _scalar(value, in_list=False):
    """Returns (GGUF type, bytes) of one value."""
    if isinstance(value, bool):
        return _BOOL, struct.pack("<?", value)
    if isinstance(value, int):
        return (_INT32, struct.pack("<i", value)) if in_list else (_UINT32, struct.pack("<I", value))
    if isinstance(value, float):
        return _FLOAT32, struct.pack("<f", value)
    if isinstance(value, (str, bytes)):
        return _STRING, _string(value)
    raise TypeError("GGUF has no type for %r" % type(value))


def _value(value):
    if not isinstance(value, list):
        kind, data = _scalar(value)
        return struct.pack("<I", kind) + data
    items = [_scalar(item, in_list=True) for item in value]
    kinds = {kind for kind, _ in items}
    if len(kinds) != 1:
        raise TypeError("a GGUF array holds values of one type")
    return (struct.pack("<IIQ", _ARRAY, kinds.pop(), len(items)) + b"".join(data for _, data in items))
