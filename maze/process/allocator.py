"""How the interpreter and the C library deal with memory, set for this server's habits."""

import ctypes
import gc

GC_THRESHOLD = 100_000
"""Events are freed by reference counting; only a session that ended leaves a cycle. At the
default of 700 the collector took 11% of the time with 10,000 clients."""

KEPT_BYTES = 64 * 1024 * 1024
"""Free memory that is kept for the next batch. A batch takes and frees some megabytes; to
give them back and take them again, page by page, cost a fifth of the event rate."""
MAPPED_BYTES = 32 * 1024 * 1024
"""Only allocations from here on are mapped one by one; the most that the library allows."""
FASTBIN_BYTES = 0
"""Largest freed chunk kept in a fastbin; 0 keeps none. When a thread frees a dropped graph, the
library merges its fastbin chunks under a lock: up to 700 ms with fastbins, 30 ms without."""

# From <malloc.h>. Setting either threshold stops the library from adjusting the other.
_M_MXFAST, _M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = 1, -1, -3


def tune_memory() -> None:
    """Set the collector's threshold and the allocator's; only glibc has mallopt for the latter."""
    gc.set_threshold(GC_THRESHOLD)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES)
        mallopt(_M_MXFAST, FASTBIN_BYTES)
