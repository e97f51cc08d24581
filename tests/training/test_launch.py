"""Errors of training processes, as the process that started them raises them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from halometry.errors import RunError, UnavailableError
from halometry.training.distributed import PeerLostError
from halometry.training.launch import _cause


def failure(folder: Path, exit_code: int, error: str | None) -> ProcessFailure:
    """Failure of the second process, with what torch recorded of its error."""
    file = folder / "error.json"
    if error is not None:
        details = {"py_callstack": f"Traceback ...\n{error}", "timestamp": "0"}
        file.write_text(json.dumps({"message": {"message": error, "extraInfo": details}}))
    return ProcessFailure(local_rank=1, pid=1, exitcode=exit_code, error_file=str(file))


@pytest.mark.parametrize(
    ("exit_code", "error", "expected", "message"),
    [
        (1, "RunError: run: is bad", RunError, "^run: is bad$"),
        (1, "PeerLostError: lost", PeerLostError, "^lost$"),
        (1, "IndexError: 3", RuntimeError, r"process 2 of 2 failed:\nTraceback ...\nIndexError: 3"),
        (-9, None, UnavailableError, r"process 2 of 2 was killed \(signal 9\), perhaps"),
        (1, None, UnavailableError, "process 2 of 2 ended before it could train; in a script"),
    ],
)
def test_failure_of_a_process_becomes_one_error(
    tmp_path: Path, exit_code: int, error: str | None, expected: type[Exception], message: str
) -> None:
    cause = _cause(1, failure(tmp_path, exit_code, error), 2)
    assert type(cause) is expected
    with pytest.raises(expected, match=message):
        raise cause
