"""Simulated images into a store."""

from __future__ import annotations

from pathlib import Path

from halometry.datasets.build import (
    MAX_SHARDS,
    Finished,
    build_dataset,
    min_shard_size,
    plan_shards,
)
from halometry.datasets.cluster import make_on_cluster
from halometry.datasets.shards import Shard
from halometry.datasets.workers import RENDER_BATCH, ShardTask, make_here, make_in_processes
from halometry.errors import StorageError, UsageError
from halometry.log import Tracker, logger, with_progress
from halometry.parallel import Workers, available_cores, check_workers, find_device
from halometry.provenance import versions
from halometry.simulation import Preset, load_preset

DEFAULT_SHARD_SIZE = 1024  # images
MIN_PARALLEL_SUBPIXELS = (
    2e8  # subpixels; ten seconds on one core, twice what it takes to start processes
)
MIN_IMAGE_SUBPIXELS = 10_000


@with_progress
def simulate(
    preset: str | Path | Preset,
    count: int,
    *,
    seed: int = 0,
    out: str | Path = "lenses.h5",
    device: str = "auto",
    n_test: int = 0,
    overwrite: bool = False,
    workers: Workers = 1,
    shard_size: int | None = None,
    scheduler: str | None = None,
    progress: bool = True,
) -> Path:
    """Draw, render and observe labeled images into a store.

    The store is the file `out` and, beside it, a folder of shards. Where it was begun earlier,
    finished shards are kept and the others made; its bytes do not depend on how often it was
    stopped, nor on who did the work.

    Args:
        preset: a name, a YAML file, or a preset.
        count: how many images; image k depends on preset, seed and k alone.
        seed: of the set.
        out: the HDF5 file to write; `lenses.h5` has its shards in `lenses.shards/`.
        device: `auto`, `cpu`, or as PyTorch names it.
        test: the last so many images are set aside as the test set; with 0, whoever trains
            sets a tenth aside.
        overwrite: remove a set that is there.
        workers: processes to work in; `auto` takes the cores there are where that saves time. A
            script that asks for more than one must begin its work under
            `if __name__ == "__main__":`, since Python imports the script in each of them.
        shard: images of a shard, rounded up to a multiple of 32; None takes 1,024, or more
            where there would be more than 200 shards.
        scheduler: address of a Dask scheduler, whose workers do the work instead.
        progress: whether to show progress bars.

    Returns:
        `out`.

    Raises:
        UsageError, ConfigError: wrong count, unknown or wrong preset, another set there already.
        StorageError: no room or no permission.
        UnavailableError: workers that were killed, or a scheduler that does not answer.
            After either, finished shards are kept, and the same call goes on.

    Example:
        >>> simulate("demo_mass", 1000, seed=1, out="masses.h5")  # doctest: +SKIP
    """
    preset = preset if isinstance(preset, Preset) else load_preset(preset)
    out = Path(out)
    _check(count, n_test, seed, out, workers, scheduler)
    if scheduler is None:
        device = find_device(device)
    elif device == "auto":
        device = "cpu"  # what the workers have is not known here
    size = _shard_size(count, shard_size)
    plan = plan_shards(out, count, size)
    tasks = _tasks(plan, preset, seed, device, count - n_test, out)
    settings = {
        "count": count,
        "seed": seed,
        "n_test": n_test,
        "shard_size": size,
        "device": tasks[0].attributes["device"],  # noise differs between a CPU and a GPU
        **versions(),
        "preset": preset.model_dump(mode="json", exclude_none=True),
    }
    making = {task.file: task for task in tasks}

    def make(left: list[Shard], progress: Tracker, finished: Finished) -> None:
        some = [making[shard.file] for shard in left]
        processes = _processes(workers, some)
        if workers != "auto" and processes < workers:
            logger.info(f"--workers {workers}: {len(some)} shards are left; see --shard-size")
        _make(some, processes, scheduler, progress, finished)

    title = f"simulating {preset.name}"
    return build_dataset(out, plan, settings, count - n_test, overwrite, title, make)


def _check(
    count: int, n_test: int, seed: int, out: Path, workers: Workers, scheduler: str | None
) -> None:
    if count < 1:
        raise UsageError(f"--count {count}: must be at least 1")
    if not 0 <= n_test < count:
        raise UsageError(f"--n-test {n_test}: must be below --count {count}")
    if seed < 0:
        raise UsageError(f"--seed {seed}: must not be negative")
    check_workers(workers)
    if scheduler is not None and workers not in ("auto", 1):
        raise UsageError("--workers is for this machine; with --scheduler its workers are used")
    if out.is_dir():
        raise UsageError(
            f"{out}: is a folder; give the name of a file, such as {out / 'lenses.h5'}"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{out.parent}: cannot be made ({error.strerror})") from error


def _shard_size(count: int, asked: int | None) -> int:
    least = _whole_batches(min_shard_size(count))
    if asked is None:
        return max(DEFAULT_SHARD_SIZE, least)
    if asked < 1:
        raise UsageError(f"--shard-size {asked}: must be at least 1")
    if _whole_batches(asked) < least:
        raise UsageError(
            f"--shard-size {asked}: makes more than {MAX_SHARDS} files, which HDF5 may have to hold"
            f" open together; give at least {least}"
        )
    return _whole_batches(asked)


def _whole_batches(count: int) -> int:
    return -(-count // RENDER_BATCH) * RENDER_BATCH


def _tasks(
    plan: list[Shard], preset: Preset, seed: int, device: str, test_from: int, out: Path
) -> list[ShardTask]:
    """What makes each shard of a set."""
    attributes: dict[str, str | int] = {
        "preset": preset.name,
        "preset_yaml": preset.to_yaml(),
        "seed": seed,
        "device": device.partition(":")[0],
        **versions(),
    }
    home = out.parent.absolute()
    tasks = []
    for shard in plan:
        own = attributes | {"start": shard.start, "test_from": shard.test_from(test_from)}
        tasks.append(
            ShardTask(home, shard.file, preset, seed, shard.start, shard.count, device, own)
        )
    return tasks


def _processes(workers: Workers, tasks: list[ShardTask]) -> int:
    """How many processes to work in."""
    if workers == "auto":
        worth_it = sum(map(_subpixels, tasks)) > MIN_PARALLEL_SUBPIXELS
        workers = available_cores() if worth_it and tasks[0].device.startswith("cpu") else 1
    return min(workers, len(tasks))


def _subpixels(task: ShardTask) -> int:
    """What a shard costs: subpixels, of which a small image takes as long as some more."""
    spec = task.preset.image
    return task.count * max((spec.pixels * spec.supersampling) ** 2, MIN_IMAGE_SUBPIXELS)


def _make(
    tasks: list[ShardTask],
    processes: int,
    scheduler: str | None,
    progress: Tracker,
    finished: Finished,
) -> None:
    if scheduler is not None and tasks:
        make_on_cluster(tasks, scheduler, progress, finished)
    elif processes > 1:
        make_in_processes(tasks, processes, progress, finished)
    else:
        make_here(tasks, progress, finished)
