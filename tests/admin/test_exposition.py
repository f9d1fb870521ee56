"""The formats and the compression of /metrics, as the client chooses them."""

from __future__ import annotations

import gzip

import pytest
from prometheus_client.parser import text_string_to_metric_families as text

from maze.admin.metrics import HELP

from .watching import Answer, Watched, Watcher, openmetrics

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
"""What Prometheus 3 sends."""


def content_type(answer: Answer) -> str:
    assert answer.status == 200
    assert answer.headers["vary"] == "accept, accept-encoding"
    return answer.headers["content-type"]


@pytest.mark.parametrize(
    "accept",
    [
        PROMETHEUS,
        "application/openmetrics-text",
        "Application/OpenMetrics-Text ; Version=1.0.0",
        "application/openmetrics-text; version=0.0.1,application/openmetrics-text; version=1.0.0",
        "text/plain;q=0.5, application/openmetrics-text;q=0.5",
        "application/openmetrics-text, */*",
        'application/openmetrics-text; version="1.0.0"',
    ],
)
def test_openmetrics_is_sent_to_who_prefers_it(watched: Watched, accept: str) -> None:
    assert content_type(watched.ask("/metrics", Accept=accept)) == OPENMETRICS


@pytest.mark.parametrize(
    "accept",
    [
        *("", "*/*", "text/html,*/*;q=0.8", "text/plain;version=0.0.4", "application/json"),
        "application/openmetrics-text;q=0",
        "application/openmetrics-text;q=0.4,text/plain;q=0.5",
        "application/openmetrics-text;q=0.4,*/*;q=0.5",
        "application/openmetrics-text;version=0.0.1",
        "application/openmetrics-text;version=abc",
        "application/openmetrics-text;version=9.0.0",
        "application/openmetrics-text;q=high",
        "application/openmetrics-text;q=nan",
        *(";", ",,", ";;q", "q=1", "application/openmetrics-text;q=", "\xe4"),
    ],
)
def test_everybody_else_gets_the_text_format(watched: Watched, accept: str) -> None:
    assert content_type(watched.ask("/metrics", Accept=accept)) == TEXT


def test_without_an_accept_header_the_answer_is_plain_text(watched: Watched) -> None:
    answer = watched.ask("/metrics")
    assert content_type(answer) == TEXT
    assert "content-encoding" not in answer.headers


def test_both_formats_are_valid_and_have_the_same_samples(kinds: list[Watcher]) -> None:
    names = set()
    for watcher in kinds:
        old = watcher.ask("/metrics").body.decode()
        new = watcher.ask("/metrics", Accept=PROMETHEUS).body.decode()
        assert new.endswith("# EOF\n")
        samples = [
            {
                (sample.name, *sample.labels.items())
                for family in parse(document)
                for sample in family.samples
            }
            for parse, document in ((text, old), (openmetrics, new))
        ]
        assert samples[0] == samples[1]
        names |= {family.name for family in openmetrics(new)}
    assert set(HELP) <= names


def test_bounds_of_buckets_are_canonical(watched: Watched) -> None:
    for accept in (PROMETHEUS, "text/plain"):
        body = watched.ask("/metrics", Accept=accept).body
        assert b'maze_batch_events_bucket{le="1.0"}' in body
        assert b'maze_routing_seconds_bucket{le="1e-05"}' in body


@pytest.mark.parametrize("accept", [PROMETHEUS, "text/plain"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate, GZIP;q=0.5", "gzip;q=1.0, identity;q=0"])
def test_metrics_are_compressed_for_who_accepts_it(
    watched: Watched, accept: str, encoding: str
) -> None:
    plain = watched.ask("/metrics", Accept=accept)
    packed = watched.ask("/metrics", Accept=accept, Accept_Encoding=encoding)
    assert packed.headers["content-encoding"] == "gzip"
    assert content_type(packed) == content_type(plain)
    assert len(packed.body) * 4 < len(plain.body)
    document = gzip.decompress(packed.body).decode()
    parse = openmetrics if accept == PROMETHEUS else text
    assert {"maze_ready", "maze_sessions"} <= {family.name for family in parse(document)}


@pytest.mark.parametrize("path", ["/metrics", "/page/app.js"])
@pytest.mark.parametrize("encoding", ["", "br", "gzip;q=0", "gzip; q=0.000", "gzipped", "identity"])
def test_nothing_is_compressed_for_who_does_not_accept_it(
    watched: Watched, path: str, encoding: str
) -> None:
    answer = watched.ask(path, Accept_Encoding=encoding)
    assert answer.status == 200
    assert "content-encoding" not in answer.headers
