"""The devices of the process that runs a command, and the processes beside it."""

import os
from typing import Any

CLUSTER = ("coordinator", "num_processes", "process_id")


def join(flags: Any, config: Any) -> None:
    """Sets up the devices of this process, and joins the others where there are any."""
    from jnas import cluster, compiling, supervisor
    from jnas.base import InputError

    given = {name: flags[name].value for name in CLUSTER}
    alone = not flags["distributed"].value and given["coordinator"] is None
    for name, value in given.items():
        if value is not None and (flags["distributed"].value or alone):
            what = "beside --distributed" if flags["distributed"].value else "without --coordinator"
            raise InputError(f"--{name}={value}: it has no meaning {what}")
    place = cluster.address(*given.values())
    tasks = os.environ.get("SLURM_NTASKS", "1") if flags["distributed"].value else "1"
    compiling.keep_programs()
    host_devices(config.get("mesh", {}), place.get("num_processes", int(tasks)))
    if not alone:
        supervisor.end_with_parent()
        cluster.start(place)


def host_devices(mesh: Any, processes: int) -> None:
    """Splits the CPU into this process's share of the mesh, where the user has not.

    With `pop` 0 that is a device for each core, up to 8, in whole groups of `data`. Other
    platforms take no notice.
    """
    pop, data = mesh.get("pop", 1), max(mesh.get("data", 1), 1)
    cores = min(os.cpu_count() or 1, 8)
    n = -(-pop * data // processes) if pop > 0 else -(-cores // data) * data
    flag, flags = "--xla_force_host_platform_device_count", os.environ.get("XLA_FLAGS", "")
    # A device may wait longer for the others than the 40 s after which XLA would end the process.
    patience = "--xla_cpu_collective_call_terminate_timeout_seconds"
    if n > 1 and flag not in flags:
        flags = f"{flags} {flag}={n}"
    if patience not in flags and (n > 1 or processes > 1):
        flags = f"{flags} {patience}=86400"
    if flags:
        os.environ["XLA_FLAGS"] = flags.strip()
