"""What a user installs: the wheel, in an environment that has nothing of ours, away from the source."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.house.test_start import DESIRED
from tests.netns import world
from tests.netns.world import Host

PROJECT = Path(__file__).parents[2]
PIP = ["-m", "pip", "--disable-pip-version-check", "--no-input", "-q"]
pytestmark = pytest.mark.bound(400)


def run(*argv: str | Path) -> None:
    done = subprocess.run(argv, cwd=PROJECT, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=380)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wheel")
    run(sys.executable, *PIP, "wheel", ".", "--no-deps", "--no-build-isolation", "--wheel-dir", place)
    (built,) = place.glob("tunctl-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `tunctl` of a clean virtual environment, which has not even pip."""
    place = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", place)
    run(sys.executable, *PIP, "--python", place / "bin" / "python", "install", wheel)
    return place / "bin" / "tunctl"


@pytest.fixture
def stranger() -> Iterator[Host]:
    """A host whose commands do not see the source."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root: run it with sudo")
    with world.new_host("wheel") as host:
        del host.env["PYTHONPATH"]
        yield host


def test_wheel_carries_the_package_the_migrations_the_units_and_nothing_else(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith((".dist-info", ".data"))} == {"reconciler"}
    migrations = {path.name for path in (PROJECT / "migrations" / "versions").glob("*.py")}
    assert migrations
    assert {name for name in migrations if f"reconciler/store/migrations/versions/{name}" not in names} == set()
    assert any(name.endswith("LICENSE") for name in names)
    data = {name.partition(".data/data/")[2] for name in names if ".data/" in name}
    assert data == {
        "lib/systemd/system/tunctl.service", "lib/systemd/system/tunctl-reconcile.service",
        "lib/systemd/system/tunctl-reconcile.timer", "lib/sysusers.d/tunctl.conf", "lib/tmpfiles.d/tunctl.conf",
    }  # fmt: skip


def test_the_units_are_where_the_readme_says(installed: Path) -> None:
    place = installed.parents[1] / "lib"
    for path in (PROJECT / "packaging").rglob("*.*"):
        if path.is_file():
            there = place / ("systemd/system" if path.parent.name == "systemd" else path.parent.name) / path.name
            assert there.read_text() == path.read_text()
    words = re.search(r"sudo cp -r (.*) /usr/local/lib/\n", (PROJECT / "README.md").read_text())
    assert words
    assert {Path(word).name for word in words[1].split()} == {path.name for path in (PROJECT / "packaging").iterdir()}
    assert {Path(word).parent for word in words[1].split()} == {Path("/opt/tunctl/lib")}


def test_installed_tunctl_says_its_version(installed: Path, stranger: Host) -> None:
    from reconciler import __version__

    assert __version__ in stranger.run([installed, "version"]).stdout
    assert __version__ in stranger.run([installed, "--version"]).stdout


def test_installed_tunctl_does_its_main_job(installed: Path, stranger: Host) -> None:
    """Plan, make the store (the migrations come from the wheel), apply, take away."""
    desired = stranger.write("d.toml", DESIRED)
    before = stranger.snapshot()
    planned = stranger.run([installed, "plan", desired], check=False)
    assert (planned.returncode, stranger.snapshot()) == (2, before), planned
    stranger.run([installed, "apply", desired])
    assert [link["ifname"] for link in stranger.ip_json("link show group 20000")] == ["tun-demo"]
    assert (stranger.state_dir / "intent.db").exists()
    stranger.run([installed, "down", "demo"])
    assert stranger.snapshot() == before
