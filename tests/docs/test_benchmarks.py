"""docs/benchmarks.md lists the workloads of the benchmark."""

from pathlib import Path

from simulator.bench.workloads import WORKLOADS

DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def test_the_documented_workloads_are_those_there_are() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    table = text.partition("<!-- workloads: begin")[2].partition("<!-- workloads: end -->")[0]
    assert table.splitlines()[1:] == [
        f"| {name} | `{workload.flags}` | {workload.stresses} |"
        for name, workload in WORKLOADS.items()
    ]
