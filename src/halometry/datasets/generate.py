"""Simulation of labeled images into a store."""

from __future__ import annotations

from pathlib import Path

from halometry.datasets.build import Shards, build_dataset
from halometry.datasets.cluster import make_on_cluster
from halometry.datasets.shards import MAX_SHARDS, ShardRange, min_shard_size, plan_shards
from halometry.datasets.workers import RENDER_BATCH, ShardTask, make_shards
from halometry.errors import StorageError, UsageError
from halometry.log import Tracker, logger, with_progress
from halometry.parallel import Workers, available_cores, check_workers, device_type, find_device
from halometry.provenance import simulation_versions
from halometry.simulation import Preset, load_preset

DEFAULT_SHARD_SIZE = 1024  # images
# One core renders fewer subpixels in less than 10 s, twice the time that processes take to start.
MIN_PARALLEL_SUBPIXELS = 2e8
MIN_IMAGE_SUBPIXELS = 10_000  # smaller images take as long as one of so many subpixels


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

    The store is the file `out` and a folder of shards beside it. The same call continues an
    interrupted one and keeps its finished shards. The bytes of the store do not depend on
    interruptions or on the number of workers.

    Args:
        preset: a name, a YAML file, or a preset.
        count: number of images; image k depends on preset, seed and k only.
        seed: seed of the dataset.
        out: the HDF5 file to write; the shards of `lenses.h5` are in `lenses.shards/`.
        device: `auto`, `cpu`, or a device as PyTorch names it.
        n_test: number of images at the end that are the test set; with 0, training sets a tenth
            aside.
        overwrite: whether to remove an existing dataset.
        workers: number of processes; `auto` takes one for each core if that saves time. A script
            that asks for more than one must start its work below `if __name__ == "__main__":`,
            because Python imports the script in each of them.
        shard_size: images in a shard, rounded up to a multiple of 32; by default 1,024, or more
            if there would be more than 200 shards.
        scheduler: address of a Dask scheduler, whose workers are used instead.
        progress: whether to show progress bars.

    Returns:
        `out`.

    Raises:
        UsageError, ConfigError: wrong number, unknown or invalid preset, or another dataset exists.
        StorageError: no room or no permission; finished shards are kept.
        UnavailableError: a worker was killed, or the scheduler does not answer; finished shards
            are kept.

    Example:
        >>> simulate("demo_mass", 1000, seed=1, out="masses.h5")  # doctest: +SKIP
    """
    preset = preset if isinstance(preset, Preset) else load_preset(preset)
    out = Path(out)
    _check(count, n_test, seed, out, workers, scheduler)
    if scheduler is None:
        device = find_device(device)
    elif device == "auto":
        device = "cpu"  # the devices of the workers are not known here
    size = _shard_size(count, shard_size)
    settings = {
        "count": count,
        "seed": seed,
        "n_test": n_test,
        "shard_size": size,
        "device": device_type(device),  # noise differs between a CPU and a GPU
        **simulation_versions(),
        "preset": preset.model_dump(mode="json", exclude_none=True),
    }

    def make_missing(missing: list[ShardRange], tracker: Tracker) -> Shards:
        tasks = _tasks(missing, preset, seed, device, count - n_test, out)
        if scheduler is not None:
            return make_on_cluster(tasks, scheduler, tracker)
        processes = _processes(workers, tasks)
        if workers != "auto" and processes < workers:
            logger.info(f"--workers {workers}: {len(tasks)} shards are left; see --shard-size")
        return make_shards(tasks, processes, tracker)

    return build_dataset(
        out,
        plan_shards(out, count, size),
        make_missing,
        settings=settings,
        test_from=count - n_test,
        title=f"simulating {preset.name}",
        overwrite=overwrite,
    )


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


def _shard_size(count: int, requested: int | None) -> int:
    minimum = _round_to_batches(min_shard_size(count))
    if requested is None:
        return max(DEFAULT_SHARD_SIZE, minimum)
    if requested < 1:
        raise UsageError(f"--shard-size {requested}: must be at least 1")
    if _round_to_batches(requested) < minimum:
        raise UsageError(
            f"--shard-size {requested}: makes more than {MAX_SHARDS} files, which HDF5 may have to"
            f" hold open together; give at least {minimum}"
        )
    return _round_to_batches(requested)


def _round_to_batches(count: int) -> int:
    return -(-count // RENDER_BATCH) * RENDER_BATCH


def _tasks(
    shards: list[ShardRange], preset: Preset, seed: int, device: str, test_from: int, out: Path
) -> list[ShardTask]:
    attributes: dict[str, str | int] = {
        "preset": preset.name,
        "preset_yaml": preset.to_yaml(),
        "seed": seed,
        "device": device_type(device),
        **simulation_versions(),
    }
    base = out.parent.absolute()
    tasks = []
    for shard in shards:
        first_test = shard.first_test_image(test_from)
        shard_attributes = {**attributes, "start": shard.start, "test_from": first_test}
        tasks.append(ShardTask(base, shard, preset, seed, device, shard_attributes))
    return tasks


def _processes(workers: Workers, tasks: list[ShardTask]) -> int:
    """Number of processes to use."""
    if workers == "auto":
        saves_time = sum(map(_subpixels, tasks)) > MIN_PARALLEL_SUBPIXELS
        workers = available_cores() if saves_time and tasks[0].device == "cpu" else 1
    return max(1, min(workers, len(tasks)))


def _subpixels(task: ShardTask) -> int:
    """Cost of a shard in rendered subpixels."""
    spec = task.preset.image
    return task.shard.count * max((spec.pixels * spec.supersampling) ** 2, MIN_IMAGE_SUBPIXELS)
