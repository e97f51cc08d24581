"""What the benchmarks share: contenders in processes of their own, in turns; ratios; the record."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from halometry.provenance import machine

BUSY = 0.3  # load by others above which a measurement is doubtful
RESAMPLES = 10_000

Round = Callable[[], dict[str, Any]]


def arguments(text: str | None) -> argparse.ArgumentParser:
    """A parser with the option that every benchmark has."""
    parser = argparse.ArgumentParser(description=(text or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="a JSON file to write")
    return parser


def begin(what: str, device: str = "cpu") -> dict[str, Any]:
    """The head of a record; warns where others are at work."""
    load = psutil.getloadavg()[0]
    if load > BUSY:
        print(f"the load is {load:.2f}: others are at work, the rates will be too low")
    return {
        "what": what,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", *sys.argv]),
        "machine": machine(device),
        "load_before": round(load, 2),
    }


def write(record: dict[str, Any], out: Path | None) -> None:
    """Show the table of a record, and write it."""
    rows = record["rows"]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
    record["load_after"] = round(psutil.getloadavg()[0], 2)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


class Contender:
    """One way of doing something, in a process of its own that waits between its rounds.

    Settings of the process (threads, the C library's memory) are then its own, too.

    Args:
        make: builds the way, and returns what does one round and tells about it; a function of
            a module, since the process imports it.
        arguments: of `make`.
    """

    def __init__(self, make: Callable[..., Round], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, make, arguments), daemon=True)
        self._process.start()
        other.close()

    def round(self) -> dict[str, Any]:
        """Do one round; whatever it tells, such as `images` and `seconds`."""
        self._pipe.send("round")
        try:
            result: dict[str, Any] = self._pipe.recv()
        except EOFError:
            sys.exit("a contender ended; what it said stands above")
        return result

    def end(self) -> None:
        self._pipe.send(None)
        self._process.join()


def _serve(pipe: Connection, make: Callable[..., Round], arguments: tuple[Any, ...]) -> None:
    one_round = make(*arguments)
    while pipe.recv() is not None:
        pipe.send(one_round())


def in_turns(contenders: dict[str, Contender], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Rounds of all contenders, A B C A B C ..., so that a busy moment hits all; one warms up."""
    told: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    for k in range(rounds + 1):
        for name, contender in contenders.items():
            result = contender.round()
            if k:
                told[name].append(result)
    for contender in contenders.values():
        contender.end()
    return told


def quartiles(values: list[float]) -> dict[str, float]:
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    return {"median": float(median), "low": float(low), "high": float(high)}


def ratio(over: list[float], under: list[float], seed: int = 0) -> dict[str, float]:
    """The median of one rate over another's of the same rounds, with its 95 % interval.

    The interval is a percentile bootstrap over rounds.
    """
    each = np.array(over) / np.array(under)
    rows = np.random.default_rng(seed).integers(0, len(each), (RESAMPLES, len(each)))
    low, high = np.quantile(np.median(each[rows], axis=1), (0.025, 0.975))
    return {"value": float(np.median(each)), "low": float(low), "high": float(high)}


def told(rate: dict[str, float]) -> str:
    """A median or ratio with its quartiles or interval."""
    value = rate.get("median", rate.get("value", float("nan")))
    shown, low, high = (f"{float(f'{v:.3g}'):,g}" for v in (value, rate["low"], rate["high"]))
    return f"{shown} [{low}, {high}]"
