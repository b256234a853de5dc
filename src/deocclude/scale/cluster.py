"""A Ray cluster: an existing one, or one on this machine for the time of a run. Ray prints nothing and reports nothing.

Ray is imported when a run needs it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

from deocclude.errors import DeoccludeError, MissingExtraError, UsageError
from deocclude.inference.cores import usable_cores

_PROBE_S = 5.0  # Ray itself waits for minutes for an address where nothing answers
_SILENT = logging.CRITICAL + 1  # a level that no message has
_OBJECT_STORE_BYTES = 512 << 20  # of a cluster on this machine; blocks hold names, not pixels
_NO_REPORTS = {"RAY_USAGE_STATS_ENABLED": "0"}  # environment of Ray: no usage statistics are sent
# Environment variables of Ray for a cluster on this machine.
_SETTINGS = {
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # no processes in advance, one for each CPU: they would only delay the workers
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    # Ray's default is 15: beside any other process the workers would hardly get a core
    "RAY_worker_niceness": "0",
}


def ray_data() -> Any:
    """The module `ray.data`. Raises MissingExtraError."""
    try:
        import ray.data
        import s3fs  # noqa: F401  of the same extra: fail now if it is missing, not at the first URL
    except ImportError as error:
        raise MissingExtraError("--engine ray", "scale") from error
    return ray.data


@contextlib.contextmanager
def cluster(address: str | None, workers: int | None, threads: int) -> Iterator[int]:
    """Connect to Ray for the time of the context; a connection that exists is used and stays.

    Args:
        address: HOST:PORT of a cluster, or auto; None: RAY_ADDRESS, else a cluster of this machine's cores.
        workers: photos at once; None: as many as fit.
        threads: CPUs of each.

    Yields:
        The number of workers, at most as many as fit beside one CPU that Ray Data keeps.

    Raises:
        MissingExtraError: Ray is not installed.
        DeoccludeError: no cluster answers there, or it is too small for one worker.
        UsageError: an address of Ray Client.
    """
    ray_data()
    import ray

    address = address or os.environ.get("RAY_ADDRESS") or "local"
    with contextlib.ExitStack() as stack:
        if not ray.is_initialized():
            cpus = (workers or max(1, usable_cores() // threads)) * threads + 1
            stack.enter_context(_connected(address, cpus))
        fit = _workers_that_fit(ray.nodes(), threads)
        if fit < 1:
            have = round(sum(_cpus_of(ray.nodes())))
            raise DeoccludeError(
                f"the Ray cluster at {address} is too small: it has {have} CPUs, but a worker needs {threads} on one "
                "machine and Ray Data one more: add machines, or lower --threads"
            )
        yield min(workers or fit, fit)


def _workers_that_fit(nodes: list[dict[str, Any]], threads: int) -> int:
    """How many workers fit on the nodes, with one CPU left: a pool that takes all CPUs waits for ever."""
    cpus = _cpus_of(nodes)
    fit = sum(int(count // threads) for count in cpus)
    return fit if sum(cpus) - fit * threads >= 1 else fit - 1


def _cpus_of(nodes: list[dict[str, Any]]) -> list[float]:
    """The number of CPUs of each living node."""
    return [float(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]]


@contextlib.contextmanager
def _connected(address: str, cpus: int) -> Iterator[None]:
    """Connect, or start a cluster on this machine. Ray prints nothing while the context lasts."""
    import ray
    import ray._private.worker as ray_worker

    _probe(address)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": _SILENT}
    if address == "local":
        options |= {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    with _environment_defaults(_NO_REPORTS | _SETTINGS), _native_stderr_muted(), _sigterm_handler_kept():
        _start(address, options)
    # the raylet's messages go to standard output, whatever log_to_driver says; there is no option for them
    former = ray_worker._worker_logs_enabled
    ray_worker._worker_logs_enabled = False
    consoles = [handler for handler in logging.getLogger("ray.data").handlers if handler.get_name() == "console"]
    levels = [console.level for console in consoles]
    for console in consoles:
        console.setLevel(_SILENT)
    try:
        with _environment_defaults(_NO_REPORTS):
            yield
    finally:
        ray.shutdown()
        ray_worker._worker_logs_enabled = former
        for console, level in zip(consoles, levels, strict=True):
            console.setLevel(level)


def _start(address: str, options: dict[str, Any]) -> None:
    """Call `ray.init`. For a cluster on this machine try twice: Ray gives up after 30 s. Raises DeoccludeError."""
    import ray

    for tries_left in (1, 0) if address == "local" else (0,):
        try:
            ray.init(address, **options)
            return
        except Exception as error:  # Ray has no class of its own for a start that takes too long
            ray.shutdown()
            if not tries_left:
                what = "Ray does not start" if address == "local" else f"no Ray cluster at {address}"
                raise DeoccludeError(f"{what}: {' '.join(str(error).split())}") from error


def _probe(address: str) -> None:
    """Raise UsageError for an address that is no HOST:PORT, DeoccludeError where nothing answers there."""
    if address in ("local", "auto"):
        return
    if "://" in address:
        raise UsageError(
            f"--address {address}: expected HOST:PORT or auto; to reach a cluster from outside, submit a job"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"--address takes HOST:PORT or auto, got {address}")
    try:
        with socket.create_connection((host, int(port)), timeout=_PROBE_S):
            pass
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DeoccludeError(f"no Ray cluster at {address}: {reason}") from error


@contextlib.contextmanager
def _environment_defaults(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the time of the context, except those that are set already."""
    added = [name for name in values if name not in os.environ]
    os.environ.update({name: values[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


@contextlib.contextmanager
def _native_stderr_muted() -> Iterator[None]:
    """Drop what native code prints on stderr in the context: Ray's messages about its own logging."""
    try:
        former = os.dup(2)
    except OSError:  # standard error is closed
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(former, 2)
        os.close(former)


@contextlib.contextmanager
def _sigterm_handler_kept() -> Iterator[None]:
    """Restore this process's handler of SIGTERM at the end of the context: Ray replaces it."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
