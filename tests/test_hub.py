"""Runs on the Hub, with a local folder in place of the Hub."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from halometry import hub
from halometry.errors import RunError, UnavailableError, UsageError
from halometry.evaluation.predict import predict
from halometry.publish.card import read_card
from halometry.publish.publish import publish_run
from halometry.runs.ood import DETECTOR
from halometry.runs.run import LINEAGE, load_run


class Hub:
    """Repositories as local folders, with the methods of the Hub's client."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.failure: Exception | None = None

    def fail(self) -> None:
        if self.failure is not None:
            raise self.failure

    def repo_exists(self, _: Any, repo: str) -> bool:
        self.fail()
        return (self.home / repo).is_dir()

    def list_repo_files(self, _: Any, repo: str) -> list[str]:
        return [file.name for file in (self.home / repo).iterdir()]

    def create_repo(self, _: Any, repo: str, exist_ok: bool) -> str:
        self.fail()
        (self.home / repo).mkdir(parents=True, exist_ok=exist_ok)
        return f"https://huggingface.co/{repo}"

    def upload_folder(
        self,
        _: Any,
        repo_id: str,
        folder_path: Path,
        allow_patterns: list[str],
        delete_patterns: list[str],
        **__: str,
    ) -> None:
        for name in delete_patterns:
            (self.home / repo_id / name).unlink(missing_ok=True)
        for file in folder_path.iterdir():
            if file.name in allow_patterns:
                shutil.copy(file, self.home / repo_id / file.name)

    def snapshot_download(self, repo: str, **options: Any) -> str:
        self.fail()
        if options["revision"] not in (None, "main"):
            raise refusal(errors.RevisionNotFoundError, 404)
        if not (self.home / repo).is_dir():
            raise refusal(errors.RepositoryNotFoundError, 404)
        return str(self.home / repo)


def refusal(kind: type[errors.HfHubHTTPError], status: int) -> errors.HfHubHTTPError:
    """Error of the Hub's client with an HTTP status."""
    error = kind.__new__(kind, "said no")
    error.response = SimpleNamespace(status_code=status)  # type: ignore[assignment]
    return error


@pytest.fixture
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    local_hub = Hub(tmp_path / "hub")
    for name in ("repo_exists", "list_repo_files", "create_repo", "upload_folder"):
        call = getattr(local_hub, name)
        monkeypatch.setattr(huggingface_hub.HfApi, name, lambda *a, call=call, **k: call(*a, **k))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", local_hub.snapshot_download)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_mine")
    return local_hub


def test_pushed_run_is_loaded_from_the_hub(fake_hub: Hub, published: Path, lenses: Path) -> None:
    run = published / "runs" / "demo_classification"
    for _ in range(2):  # the second is a new revision
        published_run = publish_run(run, lenses, "hf://me/lenses")
    assert published_run.location == "https://huggingface.co/me/lenses"
    files = {file.name for file in (fake_hub.home / "me/lenses").iterdir()}
    # The set is too small for a detector, and the run started from random weights.
    assert files == set(hub.RUN_FILES) - {DETECTOR, LINEAGE}
    run_on_hub = load_run("hf://me/lenses@main")
    assert run_on_hub.source == "hf://me/lenses@main"
    assert run_on_hub.config.class_names == ("no", "sphere", "vort")
    assert len(predict("hf://me/lenses", lenses)) == 90
    assert "halometry predict hf://me/lenses image.npy" in read_card("hf://me/lenses")


def test_push_removes_files_of_an_earlier_run(fake_hub: Hub, published: Path, lenses: Path) -> None:
    run = published / "runs" / "demo_classification"
    publish_run(run, lenses, "hf://me/lenses")
    for name in (DETECTOR, LINEAGE, "notes.txt"):
        (fake_hub.home / "me/lenses" / name).write_text("of another run")
    publish_run(run, lenses, "hf://me/lenses")
    files = {file.name for file in (fake_hub.home / "me/lenses").iterdir()}
    assert files == {*hub.RUN_FILES, "notes.txt"} - {DETECTOR, LINEAGE}


def test_invalid_addresses_are_refused(fake_hub: Hub) -> None:
    with pytest.raises(UsageError, match="write it as hf://USER/REPO"):
        load_run("hf://lenses")
    with pytest.raises(UsageError, match="a push makes a new revision; give hf://me/lenses"):
        hub.check_push("hf://me/lenses@v1")


def test_missing_runs_and_revisions_are_reported(
    fake_hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnavailableError, match="the Hub has no such model, or it is private"):
        load_run("hf://me/gone")
    with pytest.raises(UnavailableError, match="me/gone has no revision 'v9'"):
        load_run("hf://me/gone@v9")
    (fake_hub.home / "me/cats").mkdir(parents=True)
    with pytest.raises(RunError, match="hf://me/cats: is not a run folder"):
        load_run("hf://me/cats")
    fake_hub.failure = refusal(errors.HfHubHTTPError, 500)
    with pytest.raises(UnavailableError, match="hf://me/cats: cannot be fetched"):
        load_run("hf://me/cats")


def test_missing_connection_is_reported(fake_hub: Hub) -> None:
    fake_hub.failure = errors.LocalEntryNotFoundError("not in the cache")
    with pytest.raises(UnavailableError, match=r"is not on this machine, and .* cannot be reached"):
        load_run("hf://me/lenses")
    fake_hub.failure = OSError("no route")
    with pytest.raises(UnavailableError, match=r"cannot be pushed to \(no route\)"):
        hub.check_push("hf://me/lenses")


def test_connection_check_reports_offline_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise errors.OfflineModeIsEnabled("offline mode")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    with pytest.raises(UnavailableError, match=r"cannot be reached \(offline mode\)"):
        hub.check_connection()


def test_cached_file_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(_: str, name: str) -> str | None:
        return "/cache/b" if name == "b" else None

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", find)
    assert hub.find_cached_file("me/lenses", ["a", "b"]) == "/cache/b"
    assert hub.find_cached_file("me/lenses", ["a"]) is None


def test_push_is_refused_before_the_work(
    fake_hub: Hub, published: Path, lenses: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (fake_hub.home / "me/cats").mkdir(parents=True)
    (fake_hub.home / "me/cats/model.bin").touch()
    run = published / "runs" / "demo_classification"
    with pytest.raises(UsageError, match="hf://me/cats: the name is taken by something else"):
        publish_run(run, lenses, "hf://me/cats")
    fake_hub.failure = refusal(errors.HfHubHTTPError, 403)
    with pytest.raises(UnavailableError, match="the Hub refuses this token"):
        publish_run(run, lenses, "hf://you/lenses")
    fake_hub.failure = OSError("broken pipe")
    with pytest.raises(UnavailableError, match=r"cannot be pushed to \(broken pipe\)"):
        publish_run(run, lenses, "hf://me/lenses")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(UnavailableError, match="the Hub asks who you are; log in"):
        publish_run(run, lenses, "hf://me/lenses")
