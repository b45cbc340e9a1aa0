"""What a user gets: wheel, sdist and editable install, and nothing but ``eqnp`` in site-packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from places import ROOT

pytestmark = pytest.mark.install

CHECK = """
import importlib.resources, pkgutil, sys, sysconfig, pathlib
import eqnp
assert not {'numpy', 'cupy', 'h5py'} & set(sys.modules), 'import eqnp must stay quick'
for module in pkgutil.walk_packages(eqnp.__path__, 'eqnp.'):
    if module.name != 'eqnp.sklearn':  # needs the extra of that name
        __import__(module.name)
import eqnp.data, eqnp.cli.main, eqnp.runs.presets
assert len(eqnp.data.load('mnist-small').train_images) == 5000
assert 'digits' in eqnp.runs.presets.names()
assert importlib.resources.files('eqnp').joinpath('py.typed').is_file()
assert importlib.resources.files('eqnp').joinpath('__init__.pyi').is_file()
assert eqnp.build('digits')[0].architecture.classes == 10
assert 'cupy' not in sys.modules
print('ok')
"""


def call(*command, **options) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of what git tracks, so that nothing lying about helps a build."""
    folder = tmp_path_factory.mktemp("source") / "eqnp"
    for name in call("git", "ls-files", cwd=ROOT).splitlines():
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def built(source, tmp_path_factory):
    """The wheel and the sdist, the wheel being built from the sdist."""
    out = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--outdir", out, source)
    return out


def fresh_environment(folder: Path, *requirements) -> Path:
    """Make a virtual environment that sees this one's packages but not its eqnp, install, and return its python."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    site = call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    call(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", *requirements)
    installed = {path.name for path in Path(site).iterdir()} - {"__pycache__"}
    # the dependencies come from the environment of the tests; a .pth is read after what is in the folder itself
    (Path(site) / "tests_dependencies.pth").write_text(dependencies_only(folder))
    return python, installed


def dependencies_only(folder: Path) -> str:
    """Return a folder of links to the packages of this environment, all but eqnp."""
    links = folder / "dependencies"
    links.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "eqnp" not in path.name and path.suffix != ".pth":
            (links / path.name).symlink_to(path)
    return str(links) + "\n"


@pytest.mark.parametrize("form", ["wheel", "sdist"])
def test_installed_package_is_whole_and_alone(form, source, built, tmp_path):
    (artifact,) = built.glob("*.whl" if form == "wheel" else "*.tar.gz")
    python, installed = fresh_environment(tmp_path / "venv", artifact)
    assert {name for name in installed if not name.endswith(".dist-info")} == {"eqnp"}
    assert call(python, "-c", CHECK, cwd=tmp_path) == "ok\n"
    assert "eqnp, version" in call(python, "-m", "eqnp", "--version", cwd=tmp_path)
    assert call(python, "-c", CHECK, cwd=source) == "ok\n"  # the clone's folder eqnp hides what is installed
    assert "eqnp, version" in call(python, "-m", "eqnp", "--version", cwd=source)
    command = tmp_path / "venv" / "bin" / "eqnp"
    assert "train" in call(command, "--help", cwd=tmp_path)
    options = "--quiet --out run --set training.epochs=1 --set data.train_samples=100 --set data.test_samples=50"
    assert "lowest test error" in call(command, "train", *options.split(), cwd=tmp_path)


def test_editable_install_works_from_anywhere(source, tmp_path):
    python, installed = fresh_environment(tmp_path / "venv", "-e", source)
    assert not {"data", "cli", "tests"} & installed
    for folder in (tmp_path, source):
        assert call(python, "-c", CHECK, cwd=folder) == "ok\n"


def test_what_is_in_the_artifacts(built):
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if not name.startswith(("eqnp/", "eqnp_ep-"))]
    assert any("ATTRIBUTION" in name for name in names)
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as tar:
        assert not [name for name in tar.getnames() if "__pycache__" in name]


@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_other_pythons(version, built, tmp_path):
    python = newest_pyenv(version) or shutil.which(f"python{version}")
    if python is None or f"{sys.version_info.major}.{sys.version_info.minor}" == version:
        pytest.skip(f"Python {version} is not on this machine")
    (wheel,) = built.glob("*.whl")
    call(python, "-m", "venv", tmp_path / "venv")
    inside = tmp_path / "venv" / "bin" / "python"
    call(inside, "-m", "pip", "install", "--quiet", wheel)
    assert call(inside, "-W", "error", "-c", CHECK, cwd=tmp_path) == "ok\n"
    options = "--quiet --out run --set training.epochs=1 --set data.train_samples=100 --set data.test_samples=50"
    call(inside, "-m", "eqnp.cli", "train", *options.split(), cwd=tmp_path)


@pytest.mark.parametrize("version", ["3.9", "3.10"])
def test_an_older_python_is_refused_in_one_line(version, built, source, tmp_path):
    python = newest_pyenv(version) or shutil.which(f"python{version}")
    if python is None:
        pytest.skip(f"Python {version} is not on this machine")
    call(python, "-m", "venv", tmp_path / "venv")
    inside = tmp_path / "venv" / "bin" / "python"
    (wheel,) = built.glob("*.whl")
    for what in (source, wheel):
        command = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", what]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        assert done.returncode and len(errors) == 1 and "requires a different Python" in errors[0], done.stderr
    done = subprocess.run([python, "-m", "eqnp"], capture_output=True, text=True, check=False, cwd=source)
    assert done.returncode == 4 and len(done.stderr.splitlines()) == 1 and "Python 3.11 or later" in done.stderr


def newest_pyenv(version: str) -> str | None:
    """Return a pyenv-installed Python of this version, if there is one."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = sorted(root.glob(f"{version}.*/bin/python{version}"))
    return str(found[-1]) if found else None
