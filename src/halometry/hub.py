"""Run folders on the Hugging Face Hub, with addresses `hf://USER/REPO`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from halometry import __version__
from halometry.errors import UnavailableError, UsageError

ADDRESS_PREFIX = "hf://"
HOST = "huggingface.co"
CONNECT_TIMEOUT_SECONDS = 3.0
REQUIRED_FILES = ("config.yaml", "weights.safetensors", "metrics.json")
RUN_FILES = (
    *REQUIRED_FILES,
    "split.json",
    "lineage.json",
    "conformal.json",
    "ood.safetensors",
    "README.md",
)
LOGIN_HINT = "log in with 'hf auth login', or set HF_TOKEN"

_ADDRESS = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


def is_address(name: str | Path) -> bool:
    """Whether a name is an address on the Hub."""
    return str(name).startswith(ADDRESS_PREFIX)


def parse_address(address: str) -> tuple[str, str | None]:
    """Split an address into a repository and a branch, tag or commit.

    Raises:
        UsageError: it is not a valid address.

    Example:
        >>> parse_address("hf://someone/lenses@v1")
        ('someone/lenses', 'v1')
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise UsageError(f"{address}: write it as hf://USER/REPO, or hf://USER/REPO@REVISION")
    return match["repo"], match["revision"]


def check_connection() -> None:
    """Check that the Hub can be reached.

    Raises:
        UnavailableError: it cannot, or the client of the Hub is set to work offline.
    """
    from huggingface_hub import HfApi, errors

    try:
        HfApi().model_info("timm/resnet18.a1_in1k", timeout=CONNECT_TIMEOUT_SECONDS)
    except errors.HfHubHTTPError:
        pass  # the Hub answers
    except _client_errors() as error:
        raise UnavailableError(f"{HOST} cannot be reached ({_reason(error)})") from error


def find_cached_file(repo: str, names: Sequence[str]) -> str | None:
    """Path of a file of a repository in the cache of the Hub on this machine.

    Args:
        repo: the repository.
        names: names of the file, the preferred one first.

    Returns:
        The path of the first file that is in the cache, or None.
    """
    from huggingface_hub import try_to_load_from_cache

    cached = (try_to_load_from_cache(repo, name) for name in names)
    return next((path for path in cached if isinstance(path, str)), None)


def fetch(address: str) -> Path:
    """Fetch a run from the Hub; without a connection, its copy in the Hub's cache is used.

    Args:
        address: `hf://USER/REPO`, perhaps with `@` and a branch, tag or commit.

    Returns:
        The folder of the run in the cache.

    Raises:
        UnavailableError: the Hub has no such run, or it cannot be fetched.
        UsageError: the address is not valid.
    """
    from huggingface_hub import errors, snapshot_download

    repo, revision = parse_address(address)
    try:
        folder = snapshot_download(
            repo,
            revision=revision,
            allow_patterns=list(RUN_FILES),
            etag_timeout=CONNECT_TIMEOUT_SECONDS,
        )
    except errors.RevisionNotFoundError as error:
        raise UnavailableError(f"{address}: {repo} has no revision '{revision}'") from error
    except errors.RepositoryNotFoundError as error:
        raise UnavailableError(
            f"{address}: the Hub has no such model, or it is private; if it is yours, {LOGIN_HINT}"
        ) from error
    except errors.HFValidationError as error:
        raise UsageError(f"{address}: is not a name that the Hub allows ({error})") from error
    except errors.LocalEntryNotFoundError as error:
        raise UnavailableError(
            f"{address}: is not on this machine, and {HOST} cannot be reached; connect and repeat"
        ) from error
    except _client_errors() as error:
        raise UnavailableError(f"{address}: cannot be fetched ({_reason(error)})") from error
    return Path(folder)


def check_push(address: str) -> None:
    """Check that a run can be pushed, before the work that makes it.

    Raises:
        UnavailableError: there is no token or no connection, or the token is refused.
        UsageError: the address is not valid, has a revision, or its repository is not of a run.
    """
    from huggingface_hub import HfApi, get_token

    repo, revision = parse_address(address)
    if revision is not None:
        raise UsageError(f"{address}: a push makes a new revision; give {ADDRESS_PREFIX}{repo}")
    if get_token() is None:
        raise UnavailableError(f"{address}: the Hub asks who you are; {LOGIN_HINT}")
    with _push_errors(address):
        api = HfApi()
        files = set(api.list_repo_files(repo)) if api.repo_exists(repo) else set()
    if files - {".gitattributes", "README.md"} and not files.issuperset(REQUIRED_FILES):
        raise UsageError(f"{address}: the name is taken by something else; choose another")


def push(folder: Path, address: str) -> str:
    """Push a run folder to the Hub, as a new revision if the repository exists.

    Files of an earlier run that this one does not have are removed.

    Returns:
        Address of the page of the run.

    Raises:
        UnavailableError: no permission, or the connection failed.
    """
    from huggingface_hub import HfApi

    repo, _ = parse_address(address)
    api = HfApi(library_name="halometry", library_version=__version__)
    with _push_errors(address):
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
def _push_errors(address: str) -> Iterator[None]:
    """Context that converts errors of the Hub's client to errors that a user can correct."""
    from huggingface_hub import errors

    try:
        yield
    except errors.HFValidationError as error:
        raise UsageError(f"{address}: is not a name that the Hub allows ({error})") from error
    except _client_errors() as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise UnavailableError(
                f"{address}: the Hub refuses this token; {LOGIN_HINT} with one that may write there"
            ) from error
        raise UnavailableError(f"{address}: cannot be pushed to ({_reason(error)})") from error


def _client_errors() -> tuple[type[Exception], ...]:
    """Errors that the client of the Hub raises if the network or the Hub fails."""
    from huggingface_hub import errors

    return OSError, errors.HTTPError  # type: ignore[attr-defined]


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
