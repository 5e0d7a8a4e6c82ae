"""What a user installs: the wheel, in an environment that has nothing of ours, away from the source."""

from __future__ import annotations

import os
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
pytestmark = [pytest.mark.bound(400), pytest.mark.xdist_group("wheel")]  # built once, on one worker


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
    """The `tunctl` of a clean virtual environment."""
    place = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", place)
    run(place / "bin" / "python", *PIP, "install", wheel)
    return place / "bin" / "tunctl"


@pytest.fixture
def stranger() -> Iterator[Host]:
    """A host whose commands do not see the source."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root: run it with sudo")
    with world.new_host("wheel") as host:
        del host.env["PYTHONPATH"]
        yield host


def test_wheel_carries_the_package_the_migrations_and_nothing_else(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"reconciler"}
    migrations = {path.name for path in (PROJECT / "migrations" / "versions").glob("*.py")}
    assert migrations
    assert {name for name in migrations if f"reconciler/store/migrations/versions/{name}" not in names} == set()
    assert any(name.endswith("LICENSE") for name in names)


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
