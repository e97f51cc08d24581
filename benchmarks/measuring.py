"""Shared parts of the benchmarks: contenders in processes of their own, ratios, records."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from halometry.io import header
from halometry.provenance import command, provenance

BUSY_LOAD = 0.3  # by other programs, above which rates are too low
BOOTSTRAP_RESAMPLES = 10_000

Round = Callable[[], dict[str, Any]]


def create_parser(text: str | None) -> argparse.ArgumentParser:
    """Create a parser with the option `--out`.

    Args:
        text: docstring of the script.
    """
    parser = argparse.ArgumentParser(description=(text or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="a JSON file to write")
    return parser


def begin_record(what: str, device: str = "cpu") -> dict[str, Any]:
    """Create a record with header and provenance; warn if other programs are running.

    Args:
        what: is measured, in one sentence.
        device: that is used.
    """
    load = psutil.getloadavg()[0]
    if load > BUSY_LOAD:
        print(f"the load is {load:.2f}: other programs are running, the rates will be too low")
    return {
        **header("measurement"),
        "what": what,
        "command": command(),
        **provenance(device),
        "load_before": round(load, 2),
    }


def write_record(record: dict[str, Any], out: Path | None) -> None:
    """Print the table of a record, and write the record as JSON."""
    rows = record["rows"]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
    record["load_after"] = round(psutil.getloadavg()[0], 2)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


class Contender:
    """One of the compared methods, in a process of its own, which waits between its rounds.

    Settings of the process (threads, memory of the C library) do not affect the others.

    Args:
        make: function of a module that prepares the method, and returns a function of one round.
        arguments: of `make`.
    """

    def __init__(self, make: Callable[..., Round], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, make, arguments), daemon=True)
        self._process.start()
        other.close()

    def round(self) -> dict[str, Any]:
        """Run one round, and return its results, such as `images` and `seconds`."""
        self._pipe.send("round")
        try:
            result: dict[str, Any] = self._pipe.recv()
        except EOFError:
            sys.exit("a contender ended; see its message above")
        return result

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join()


def _serve(pipe: Connection, make: Callable[..., Round], arguments: tuple[Any, ...]) -> None:
    run_round = make(*arguments)
    while pipe.recv() is not None:
        pipe.send(run_round())


def run_in_turns(contenders: dict[str, Contender], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Run rounds A B C A B C ... of all contenders, so that a busy moment affects all.

    The first round of each is not counted.
    """
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    for k in range(rounds + 1):
        for name, contender in contenders.items():
            result = contender.round()
            if k:
                results[name].append(result)
    for contender in contenders.values():
        contender.close()
    return results


def quartiles(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    return {"median": float(median), "low": float(low), "high": float(high)}


def median_ratio(over: list[float], under: list[float], seed: int = 0) -> dict[str, float]:
    """Median ratio of two rates of the same rounds, with a 95 % percentile bootstrap interval."""
    ratios = np.array(over) / np.array(under)
    rows = np.random.default_rng(seed).integers(0, len(ratios), (BOOTSTRAP_RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(ratios[rows], axis=1), (0.025, 0.975))
    return {"value": float(np.median(ratios)), "low": float(low), "high": float(high)}


def format_rate(rate: dict[str, float]) -> str:
    """Format a median with its quartiles, or a ratio with its interval."""
    value = rate.get("median", rate.get("value", float("nan")))
    shown, low, high = (f"{float(f'{v:.3g}'):,g}" for v in (value, rate["low"], rate["high"]))
    return f"{shown} [{low}, {high}]"
