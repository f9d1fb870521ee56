"""Define the named workloads of the benchmark."""

from typing import NamedTuple


class Workload(NamedTuple):
    """The flags of a workload, and what it stresses."""

    flags: str
    stresses: str


WORKLOADS = {
    "W1": Workload(
        "--total-events 5000000 --number-of-users 1000 --concurrency-level 100 --mix 1,1,1,1,1",
        "everyday mix",
    ),
    "W2": Workload(
        "--total-events 200000 --number-of-users 10000 --concurrency-level 1000 --mix 1,1,1,1,1",
        "broadcast fan-out",
    ),
    "W3": Workload(
        "--total-events 10000000 --number-of-users 1000 --concurrency-level 100 --mix 1,1,1,1,1",
        "ten million events, flat memory",
    ),
    "W4": Workload(
        "--total-events 10000000 --number-of-users 1000 --concurrency-level 100 --mix 0,0,0,100,0",
        "parse and route, little output",
    ),
    "W5": Workload(
        "--total-events 5000000 --number-of-users 1000 --concurrency-level 100 --mix 20,10,0,0,70",
        "status fan-out over the graph",
    ),
    "W6": Workload(
        "--total-events 100000 --number-of-users 1000 --concurrency-level 100 --mix 1,1,1,1,1 "
        "--rate 10000 --latency",
        "latency",
    ),
    "W7": Workload(
        "--total-events 20000 --number-of-users 20000 --concurrency-level 10000 --mix 1,1,1,1,1 "
        "--settle 3000",
        "ten thousand clients",
    ),
    "W8": Workload(
        "--total-events 5000000 --number-of-users 1000 --concurrency-level 100 --mix original",
        "recorded mix, mostly status updates",
    ),
}
