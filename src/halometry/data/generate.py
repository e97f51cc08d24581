"""Simulated images into a store."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from halometry.data.store import StoreWriter
from halometry.devices import find_device
from halometry.errors import StorageError, UsageError
from halometry.progress import track
from halometry.simulation import UNITS, Preset, load_preset, sample

BATCH = 32


def simulate(
    preset: str | Path | Preset,
    count: int,
    seed: int = 0,
    out: str | Path = "lenses.h5",
    device: str = "auto",
    test: int = 0,
    overwrite: bool = False,
) -> Path:
    """Draw, render and observe labelled images into a store.

    Args:
        preset: a name, a YAML file, or a preset.
        count: how many images; image k depends on preset, seed and k alone.
        seed: of the set.
        out: the HDF5 file to write.
        device: `auto`, `cpu`, or as PyTorch names it.
        test: the last so many images are set aside as the test set; with 0, whoever trains
            sets a tenth aside.
        overwrite: replace a file that is there.

    Returns:
        `out`.

    Raises:
        UsageError, ConfigError: wrong count, unknown or wrong preset, file there already.
        StorageError: no room or no permission; nothing is left half-written.

    Example:
        >>> simulate("demo_mass", 1000, seed=1, out="masses.h5")  # doctest: +SKIP
    """
    preset = preset if isinstance(preset, Preset) else load_preset(preset)
    out, device = Path(out), find_device(device)
    if count < 1:
        raise UsageError(f"--count {count}: must be at least 1")
    if not 0 <= test < count:
        raise UsageError(f"--test {test}: must be below --count {count}")
    if seed < 0:
        raise UsageError(f"--seed {seed}: must not be negative")
    if out.is_dir():
        raise UsageError(
            f"{out}: is a folder; give the name of a file, such as {out / 'lenses.h5'}"
        )
    if out.exists() and not overwrite:
        raise UsageError(f"{out}: exists already; choose another --out or add --overwrite")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{out.parent}: cannot be made ({error.strerror})") from error
    attributes: dict[str, str | int | float] = {
        "preset": preset.name,
        "preset_yaml": preset.to_yaml(),
        "seed": seed,
        "test_from": count - test,
        "device": device.partition(":")[0],  # noise differs between a CPU and a GPU
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **{f"{name}_version": version(name) for name in ("torch", "caustics", "numpy")},
    }
    writer = StoreWriter(
        out,
        count=count,
        shape=preset.image.shape,
        dtype="int32",
        task=preset.task,
        class_names=preset.class_names,
        attributes=attributes,
        units=UNITS,
    )
    with writer, track(f"simulating {preset.name}", count) as progress:
        for start in range(0, count, BATCH):
            size = min(BATCH, count - start)
            images, scene = sample(preset, seed, start, size, device)
            writer.write(start, images.cpu().numpy(), scene.labels.numpy(), scene.parameters())
            progress.advance(size)
    return out
