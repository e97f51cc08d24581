"""What the pages say is true: their commands run, their tables are those of the result files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from halometry.simulation import load_preset

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Commands that install, or that run everything there is; `make demo` and `make test` are these.
NOT_HERE = ("make ", "pip ", "python3 -m venv", "halometry demo", "pre-commit ")


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the sets that the README speaks of, tiny."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 8), ("val", 3)):
        for name in ("no", "sphere", "vort"):
            (tmp_path / "dataset" / part / name).mkdir(parents=True)
            for i in range(count):
                image = rng.random((1, 32, 32))
                np.save(tmp_path / "dataset" / part / name / f"{i}.npy", image)
    (tmp_path / "lens_data").mkdir()
    (tmp_path / "my_images").mkdir()
    for i in range(24):
        pair = np.empty(2, dtype=object)
        pair[0], pair[1] = rng.integers(0, 500, (32, 32)), rng.uniform(0, 0.1)
        np.save(tmp_path / "lens_data" / f"image_{i}.npy", pair, allow_pickle=True)
        np.save(tmp_path / "my_images" / f"{i}.npy", rng.random((32, 32)))
    return tmp_path


def test_the_readme_runs_as_it_stands(place: Path) -> None:
    # One thread: small steps, and other work may be going on.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}
    ran = 0
    for language, code in blocks(ROOT / "README.md"):
        if language == "python":
            words = [sys.executable, "-c", code]
        elif any(line.startswith(NOT_HERE) for line in code.splitlines()):
            continue
        else:
            words = ["bash", "-e", "-c", code]
        done = subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True,
                              check=False)  # fmt: skip
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
        ran += 1
    assert ran == 5
    assert (place / "runs/kinds/weights.safetensors").exists()
    assert (place / "evaluation/metrics.json").exists()
    assert len((place / "predictions.csv").read_text().splitlines()) == 25
    assert (place / "montage.png").stat().st_size > 10_000


def test_every_verb_in_the_pages_is_one() -> None:
    from typer.main import get_command

    from halometry.cli import app

    verbs = get_command(app).commands  # type: ignore[attr-defined]
    seen = set()
    for page in PAGES:
        for language, code in blocks(page):
            if language != "sh":
                continue
            for line in code.replace("\\\n", " ").splitlines():
                words = line.split("#")[0].split()
                if not words or words[0] != "halometry":
                    continue
                assert words[1] in verbs, f"{page.name}: {line}"
                known = {o for p in verbs[words[1]].params for o in (*p.opts, *p.secondary_opts)}
                for word in words[2:]:
                    assert not word.startswith("--") or word in known, f"{page.name}: {line}"
                seen.add(words[1])
    assert seen == set(verbs)


def test_make_has_the_targets_that_the_pages_name() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in (*PAGES, ROOT / "CONTRIBUTING.md"):
        text = page.read_text(encoding="utf-8")
        named = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE))
        assert named <= targets, page.name


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_recipe_in_the_pages_is_valid(tmp_path: Path) -> None:
    from halometry.runs.recipe import load_recipe

    text = (ROOT / "docs/train.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "mine.yaml").write_text(block)
    recipe = load_recipe(tmp_path / "mine.yaml")
    assert recipe.resolve("classification", "resnet18").learning_rate == 0.0005
    assert recipe.resolve("classification", "efficientnet_b5").learning_rate != 0.0005


def test_the_python_of_the_physics_page_runs(tmp_path: Path) -> None:
    code = [code for language, code in blocks(ROOT / "docs/sky.md") if language == "python"]
    assert len(code) == 2
    done = subprocess.run([sys.executable, "-c", "\n".join(code)], cwd=tmp_path, text=True,
                          capture_output=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("torch.Size([8, 1, 48, 48]) torch.Size([8])") == 2


def test_the_python_of_the_page_on_weights_runs(
    shipped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ((_, code),) = [b for b in blocks(ROOT / "docs/weights.md") if b[0] == "python"]
    exec(code, {})
    assert "demo_mass/tiny test_resnet {'mse'" in capsys.readouterr().out


def test_the_parts_of_presets_in_the_pages_are_valid(tmp_path: Path) -> None:
    np.savez(tmp_path / "galaxies.npz", images=np.random.default_rng(0).random((2, 16, 16)))
    text = (ROOT / "docs/presets.md").read_text(encoding="utf-8")
    found = [
        yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S)
    ]
    whole = [block for block in found if set(block) & {"source", "halos", "image"}]
    assert len(whole) == len(found) - 1 == 4
    for block in whole:
        content = yaml.safe_load(load_preset("demo_classification").to_yaml())
        if "halos" in block:
            content |= {"distances": "angular_diameter", "mass_scale": 1.0}
            del content["subhalos"]
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content | block))
        assert load_preset(tmp_path / "mine.yaml").name == "demo_classification"


def test_tables_in_the_pages_are_those_of_the_result_files() -> None:
    script = [sys.executable, str(ROOT / "research/tables.py"), "--check"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
