"""The metrics of the server, in Prometheus' format."""

from __future__ import annotations

from collections.abc import Callable

from reformer_export.host.optional import require

_BATCH = (1, 2, 4, 8, 16, 32, 64, 128)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        self._prometheus = prometheus = require(
            "prometheus_client",
            purpose="serving",
            package="reformer-export[serve]",
        )
        self._registry = registry = prometheus.CollectorRegistry()
        self.requests = prometheus.Counter(
            "reformer_requests", "Answered requests.", ["endpoint", "status"], registry=registry
        )
        self.seconds = prometheus.Histogram(
            "reformer_request_seconds",
            "Time from the request's headers to the end of the response.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.queue_seconds = prometheus.Histogram(
            "reformer_queue_seconds",
            "Time that a request waited for a worker.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_rows = prometheus.Histogram(
            "reformer_batch_rows",
            "Sequences in a batch of /v2/models/.../infer.",
            buckets=_BATCH,
            registry=registry,
        )
        self.tokens = prometheus.Counter(
            "reformer_tokens",
            "Tokens: read (inference and prompts) and generated.",
            ["kind"],
            registry=registry,
        )
        self.restarts = prometheus.Counter(
            "reformer_worker_restarts",
            "Worker processes that ended and were replaced.",
            registry=registry,
        )

    def watch(self, *, queue: Callable[[], int], workers: Callable[[], int]) -> None:
        """Report what these functions return when the metrics are read."""
        for name, text, function in (
            ("reformer_queue", "Requests that wait for a worker.", queue),
            ("reformer_workers_ready", "Worker processes that are ready.", workers),
        ):
            gauge = self._prometheus.Gauge(name, text, registry=self._registry)
            gauge.set_function(function)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        found: bytes = self._prometheus.generate_latest(self._registry)
        return found
