#!/usr/bin/env python3
"""Counts through ctypes; needs no package. Usage: count.py PATH_OF_libtollgate.so"""

import ctypes
import sys


def load(path):
    """The library, with the types of what is used here."""
    lib = ctypes.CDLL(path)
    lib.tollgate_counter_new.restype = ctypes.c_void_p
    lib.tollgate_counter_new.argtypes = [
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_uint8,
        ctypes.POINTER(ctypes.c_char_p),
        ctypes.c_size_t,
    ]
    lib.tollgate_counter_add.restype = None
    lib.tollgate_counter_add.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
    lib.tollgate_counter_free.restype = None
    lib.tollgate_counter_free.argtypes = [ctypes.c_void_p]
    lib.tollgate_last_error.restype = ctypes.c_char_p
    lib.tollgate_wait_until_handed_over.argtypes = [ctypes.c_uint32]
    return lib


def counter(lib, tenant, meter, **dimensions):
    """A counter of a tenant, or an error that says why not."""
    texts = [text.encode() for pair in dimensions.items() for text in pair]
    array = (ctypes.c_char_p * len(texts))(*texts)
    handle = lib.tollgate_counter_new(
        tenant.encode(), meter.encode(), 0, array, len(dimensions)
    )
    if not handle:
        raise ValueError(lib.tollgate_last_error().decode())
    return handle


def main():
    lib = load(sys.argv[1])
    requests = counter(lib, "acme", "http.requests", region="eu", method="GET")
    for _ in range(1000):
        lib.tollgate_counter_add(requests, 1)
    try:
        counter(lib, "not a tenant", "http.requests")
    except ValueError as error:
        print("refused as it should be:", error)
    else:
        return 2
    handed_over = lib.tollgate_wait_until_handed_over(10_000)
    lib.tollgate_counter_free(requests)
    return 0 if handed_over else 3


if __name__ == "__main__":
    sys.exit(main())
