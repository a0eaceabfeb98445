"""Several processes that search as one: how they start, agree, and end when one is lost.

Every process runs the same deterministic loop on the same numbers. The population is spread over
the devices of all of them; process 0 alone writes and prints.
"""

import contextlib
import json
import os
import re
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jnas.errors import InputError

LOST = 75  # the exit code of a process that lost another: EX_TEMPFAIL of sysexits.h, try again
SILENT = 20  # seconds without a sign of life until a process counts as lost
TOGETHER = 300  # seconds until all processes have to have started
ADVICE = "the same command on all of them goes on from the last checkpoint"

_MESSAGE = 4096  # bytes

# What the collective operations and barriers of JAX say; the types of their errors vary.
_SIGN = re.compile(r"Gloo|NCCL|UNAVAILABLE|DEADLINE_EXCEEDED|Barrier|[Hh]eartbeat|[Cc]oordination")


class Lost(RuntimeError):
    """Another process of the search has ended, or is not heard of any more."""


def address(coordinator: str | None, processes: str | None, process: str | None) -> dict[str, Any]:
    """The place in a cluster that flags give, for `start`; none where SLURM or a TPU pod say it.

    Args:
      coordinator: `HOST:PORT` of process 0, or None.
      processes: how many processes there are.
      process: the number of this one, from 0.

    Raises:
      InputError: a value is missing or wrong.
    """
    if coordinator is None:
        return {}
    port = coordinator.rpartition(":")[2]
    form = re.fullmatch(r"([^\s:\[\]]+|\[[^\s\[\]]+\]):[0-9]{1,5}", coordinator)
    if not form or not 0 < int(port) < 2**16:
        raise InputError(f"--coordinator={coordinator}: it has the form HOST:PORT")
    n = _number("--num_processes", processes, 1, None)
    i = _number("--process_id", process, 0, n - 1)
    if i == 0:  # JAX itself would crash
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", int(port)))
            except OSError as e:
                raise InputError(
                    f"--coordinator={coordinator}: port {port}: {e.strerror}"
                ) from None
    return {"coordinator_address": coordinator, "num_processes": n, "process_id": i}


def start(place: dict[str, Any]) -> None:
    """Joins the cluster at a place of `address`, before anything is computed.

    Raises:
      InputError: no place is given and no cluster is found, or its address cannot be used.
    """
    # JAX would take SIGTERM for itself.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            **place,
            cluster_detection_method="deactivate" if place else None,
            initialization_timeout=TOGETHER,
            heartbeat_timeout_seconds=SILENT,
            shutdown_timeout_seconds=TOGETHER,
        )
    except (RuntimeError, ValueError) as e:
        if not place and isinstance(e, ValueError):
            where = "none of SLURM, Open MPI, Kubernetes and a TPU pod tells this process its place"
            raise InputError(f"--distributed: {where}; give it by --coordinator") from None
        raise InputError(f"the cluster does not start: {_line(e)}") from None


def _number(flag: str, text: str | None, least: int, most: int | None) -> int:
    allowed = f"a whole number from {least} {'up' if most is None else f'to {most}'}"
    bound = float("inf") if most is None else most
    if text is None:
        raise InputError(f"{flag} is missing beside --coordinator: {allowed}")
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= bound:
        raise InputError(f"{flag}={text}: it has to be {allowed}")
    return int(text)


def joined() -> bool:
    """Whether this process has joined a cluster."""
    return jax.distributed.is_initialized()


def several() -> bool:
    """Whether more than one process takes part."""
    return jax.process_count() > 1


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return jax.process_index() == 0


def replicated() -> NamedSharding | None:
    """The whole of an array on every device of all processes; None where there is one process."""
    everything = Mesh(np.asarray(jax.devices()), ("all",))
    return NamedSharding(everything, PartitionSpec()) if several() else None


def everywhere(tree: Any) -> Any:
    """Puts arrays that all processes hold alike on every device of all; keys of a PRNG too."""
    sharding = replicated()
    if sharding is None:
        return tree

    def put(x: Any) -> Any:
        if getattr(x, "sharding", None) == sharding:
            return x
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            data = put(jax.random.key_data(x))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
        value = np.asarray(x)
        return jax.make_array_from_callback(value.shape, sharding, lambda part: value[part])

    return jax.tree.map(put, tree)


def from_first(make: Callable[[], Any]) -> Any:
    """What a function returns on process 0, on every process; the others do not call it.

    Args:
      make: it returns a short value that JSON can hold.

    Raises:
      InputError: on every process, where it is raised on process 0.
    """
    if not several():
        return make()
    told: dict[str, Any] = {}
    if is_first():
        try:
            told = {"value": make()}
        except InputError as e:
            told = {"error": str(e)[: _MESSAGE // 8]}
    text = json.dumps(told).encode()
    if len(text) > _MESSAGE:
        raise ValueError(f"a message of {len(text)} bytes: up to {_MESSAGE} can be sent")
    sent = np.frombuffer(text.ljust(_MESSAGE), np.uint8)
    found = json.loads(np.asarray(multihost_utils.broadcast_one_to_all(sent)).tobytes())
    if "error" in found:
        raise InputError(found["error"])
    return found["value"]


@contextlib.contextmanager
def noticing() -> Iterator[None]:
    """Turns the error of an operation that needs a lost process into `Lost`.

    On any other failure the traceback is printed and this process ends at once: an ordinary exit
    would wait for the other processes, and they for this one.
    """
    try:
        yield
    except (InputError, Lost):
        raise
    except Exception as e:
        if not joined():
            raise
        if _SIGN.search(str(e)):
            who = f"process {jax.process_index()} lost another one"
            raise Lost(f"{who} ({_line(e)}); {ADVICE}") from e
        traceback.print_exc()
        leave(1)


def leave(code: int) -> NoReturn:
    """Ends this process now, without the barrier at which JAX would wait for the others."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
