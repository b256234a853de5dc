"""Prometheus metrics of one service, in a registry of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from deocclude.serve.pool import REASONS, WorkerPool

if TYPE_CHECKING:
    from deocclude.serve.work import Answer

_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120)  # upper bounds of the histograms' buckets, in seconds


class Metrics:
    """Counters and gauges; `docs/service.md` lists them. No label has a client's text."""

    def __init__(self, pool: WorkerPool[Any, Any], in_flight: Callable[[], int]) -> None:
        """Metrics of one service; the gauges read its state when Prometheus asks.

        Args:
            pool: the service's processes.
            in_flight: the number of requests that have begun and not ended.
        """
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "deocclude_requests", "Requests by route and status.", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "deocclude_request_seconds", "From a request's first byte to its answer's last.", ["route"],
            buckets=_BUCKETS_S, registry=self._registry,
        )  # fmt: skip
        self._stages = Histogram(
            "deocclude_stage_seconds", "Stages of the pipeline.", ["stage"], buckets=_BUCKETS_S, registry=self._registry
        )
        self._people = Counter("deocclude_people", "People in answers.", registry=self._registry)
        for name, text, value in (
            ("deocclude_in_flight", "Requests that have begun and not ended.", in_flight),
            ("deocclude_queue_waiting", "Requests that wait for a process.", lambda: pool.waiting),
            ("deocclude_workers_busy", "Processes at work.", lambda: pool.busy),
            ("deocclude_workers_ready", "Processes that have opened the model.", lambda: pool.ready),
        ):
            Gauge(name, text, registry=self._registry).set_function(value)
        self._replaced = Counter(
            "deocclude_workers_replaced", "Replaced processes.", ["reason"], registry=self._registry
        )
        for reason in REASONS:
            self._replaced.labels(reason)

    def count_replaced(self, reason: str) -> None:
        """Count a process that was replaced. reason: of `pool.REASONS`."""
        self._replaced.labels(reason).inc()

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """Count a request that has ended. status: 499 where the client had gone."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def count_answer(self, answer: Answer) -> None:
        """Count what an answer holds."""
        self._people.inc(answer.people)
        for stage, seconds in answer.timings_s.items():
            self._stages.labels(stage).observe(seconds)

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self._registry)
