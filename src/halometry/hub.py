"""Run folders on the Hugging Face Hub, as `hf://USER/REPO`: fetched, and pushed."""

from __future__ import annotations

import os
import re
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from halometry import __version__
from halometry.errors import UnavailableError, UsageError

ADDRESS_PREFIX = "hf://"
HOST = "huggingface.co"
REQUIRED_FILES = ("config.yaml", "weights.safetensors", "metrics.json")
RUN_FILES = (
    *REQUIRED_FILES,
    "split.json",
    "lineage.json",
    "conformal.json",
    "novelty.safetensors",
    "README.md",
)
LOGIN_HINT = "log in with 'hf auth login', or set HF_TOKEN"

_ADDRESS = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


def is_address(name: str | Path) -> bool:
    """Whether it is meant as a place on the Hub."""
    return str(name).startswith(ADDRESS_PREFIX)


def parse_address(address: str) -> tuple[str, str | None]:
    """The repository of an address, and its branch, tag or commit.

    Raises:
        UsageError: it is no such address.

    Example:
        >>> parse("hf://someone/lenses@v1")
        ('someone/lenses', 'v1')
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise UsageError(f"{address}: write it as hf://USER/REPO, or hf://USER/REPO@REVISION")
    return match["repo"], match["revision"]


def connected() -> bool:
    """Whether the Hub can be reached; without that its client retries for most of a minute."""
    from huggingface_hub import constants

    elsewhere = os.environ.get("HF_ENDPOINT") or urllib.request.getproxies().get("https")
    return not constants.HF_HUB_OFFLINE and (bool(elsewhere) or answers())


def answers(timeout: float = 3.0) -> bool:
    """Whether the Hub's host takes a direct connection."""
    try:
        socket.create_connection((HOST, 443), timeout=timeout).close()
    except OSError:
        return False
    return True


def fetch(address: str) -> Path:
    """The folder of a run on the Hub, from the Hub's cache on this machine where it is there.

    Args:
        address: `hf://USER/REPO`, perhaps with `@` and a branch, tag or commit.

    Raises:
        UnavailableError: it is not there, or cannot be fetched.
        UsageError: no such address.
    """
    from huggingface_hub import errors, snapshot_download

    repo, revision = parse_address(address)
    online = connected()
    try:
        folder = snapshot_download(
            repo, revision=revision, allow_patterns=list(RUN_FILES), local_files_only=not online
        )
    except errors.RevisionNotFoundError as error:
        raise UnavailableError(f"{address}: {repo} has no revision '{revision}'") from error
    except errors.RepositoryNotFoundError as error:
        raise UnavailableError(
            f"{address}: the Hub has no such model, or it is private; if it is yours, {LOGIN_HINT}"
        ) from error
    except errors.HFValidationError as error:
        raise UsageError(f"{address}: is not a name that the Hub allows ({error})") from error
    except _failures() as error:
        if isinstance(error, errors.LocalEntryNotFoundError) or not online:
            raise _unreachable(address, "is not on this machine") from error
        raise UnavailableError(f"{address}: cannot be fetched ({_reason(error)})") from error
    return Path(folder)


def check_push(address: str) -> None:
    """Find out before the work whether a run can be pushed.

    Raises:
        UnavailableError: no token, no connection, or the token is refused.
        UsageError: no such address, a revision, or a repository that holds something else.
    """
    from huggingface_hub import HfApi, get_token

    repo, revision = parse_address(address)
    if revision is not None:
        raise UsageError(f"{address}: a push makes a new revision; give {ADDRESS_PREFIX}{repo}")
    if get_token() is None:
        raise UnavailableError(f"{address}: the Hub asks who you are; {LOGIN_HINT}")
    if not connected():
        raise _unreachable(address, "cannot be pushed to")
    with _refusals(address):
        api = HfApi()
        there = set(api.list_repo_files(repo)) if api.repo_exists(repo) else set()
    if there - {".gitattributes", "README.md"} and not there.issuperset(REQUIRED_FILES):
        raise UsageError(f"{address}: the name is taken by something else; choose another")


def push(folder: Path, address: str) -> str:
    """Put a run folder on the Hub, as a new revision where there is one already.

    What an earlier run had there and this one has not goes: it was not made of these weights.

    Returns:
        The page's address.

    Raises:
        UnavailableError: no permission, or the connection failed.
    """
    from huggingface_hub import HfApi

    repo, _ = parse_address(address)
    api = HfApi(library_name="halometry", library_version=__version__)
    with _refusals(address):
        page = api.create_repo(repo, exist_ok=True)
        api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            allow_patterns=list(RUN_FILES),
            delete_patterns=[name for name in RUN_FILES if not (folder / name).is_file()],
            commit_message=f"Weights published by halometry {__version__}",
        )
    return str(page)


@contextmanager
def _refusals(address: str) -> Iterator[None]:
    """What the Hub answers to someone who wants to write there, as errors a user can mend."""
    from huggingface_hub import errors

    try:
        yield
    except errors.HFValidationError as error:
        raise UsageError(f"{address}: is not a name that the Hub allows ({error})") from error
    except _failures() as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise UnavailableError(
                f"{address}: the Hub refuses this token; {LOGIN_HINT} with one that may write there"
            ) from error
        raise UnavailableError(f"{address}: cannot be pushed to ({_reason(error)})") from error


def _failures() -> tuple[type[Exception], ...]:
    """What the Hub's client raises when the network or the Hub fails, by whichever library."""
    from huggingface_hub import errors

    return OSError, errors.HTTPError  # type: ignore[attr-defined]


def _unreachable(address: str, what: str) -> UnavailableError:
    return UnavailableError(f"{address}: {what}, for {HOST} cannot be reached; connect and repeat")


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
