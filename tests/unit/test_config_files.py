"""Where a desired file comes from, and the files that it names."""

from __future__ import annotations

import io
import os
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from reconciler.config.load import load
from reconciler.errors import InvalidFile
from tests.unit.config_of import EXEC, PRIVATE, TUN, WG, problems, write

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="what is refused to root is refused to root only")


def test_the_source_is_the_path_as_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, TUN)
    (tmp_path / "link.toml").symlink_to("d.toml")
    monkeypatch.chdir(tmp_path)
    assert load("link.toml").source == load("./link.toml").path == str(tmp_path / "link.toml")


def test_paths_are_relative_to_the_file_or_to_base_dir(tmp_path: Path) -> None:
    location = write(tmp_path, WG)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(tmp_path / "k", elsewhere / "k")
    assert load(location).tunnels[0].wireguard.private_key_file == str(tmp_path / "k")
    assert load(location, base_dir=elsewhere).tunnels[0].wireguard.private_key_file == str(elsewhere / "k")


def test_the_working_directory_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert "the working directory is gone" in problems("d.toml")[0]
    with pytest.raises(InvalidFile, match="the working directory is gone"):
        load("-", stdin=io.BytesIO(b"version = 1"))


def test_standard_input_is_closed_or_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert problems("-") == ["<stdin>: standard input is closed"]
    assert problems("-", stdin=io.BytesIO(b"#" * (16 << 20) + b"#")) == ["<stdin>: too large (more than 16 MiB)"]


class TestDirectory:
    """Its *.toml without hidden ones, in byte order, are one document."""

    def test_order(self, tmp_path: Path) -> None:
        write(tmp_path, TUN.replace("tunnels.t", "tunnels.b"), "b.toml")
        write(tmp_path, "version = 1\nsource = 's'", "Z.toml")
        write(tmp_path, TUN.replace("tunnels.t", "tunnels.a"), "é.toml")
        write(tmp_path, "version = nonsense", ".hidden.toml")
        write(tmp_path, "version = nonsense", "b.toml~")
        desired = load(str(tmp_path))
        assert [tunnel.name for tunnel in desired.tunnels] == ["b", "a"]
        assert (desired.source, desired.path) == ("s", str(tmp_path))

    def test_one_version_is_enough(self, tmp_path: Path) -> None:
        write(tmp_path, TUN, "a.toml")
        (tmp_path / "b.toml").write_text('[tunnels.u]\ndriver = "tun"\n')
        assert len(load(str(tmp_path)).tunnels) == 2

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (TUN, "b.toml:3: tunnels.t: the tunnel 't' is declared already (a.toml:3)"),
            ("[host]\n", "b.toml:2: host: [host] is given already (a.toml:2)"),
            ("source = 's'\n", "b.toml:2: source: is given already (a.toml:2)"),
        ],
        ids=["tunnel", "host", "source"],
    )
    def test_nothing_stands_there_twice(self, tmp_path: Path, text: str, said: str) -> None:
        write(tmp_path, text, "a.toml")
        write(tmp_path, text, "b.toml")
        assert problems(f"{tmp_path}/") == [said]

    def test_errors_of_all_files(self, tmp_path: Path) -> None:
        write(tmp_path, "x = 1", "a.toml")
        write(tmp_path, "= 1", "b.toml")
        (tmp_path / "c.toml").mkdir()
        (tmp_path / "e.toml").touch()
        (tmp_path / "f.toml").symlink_to("gone")
        os.mkfifo(tmp_path / "g.toml")
        found = problems(f"{tmp_path}/")
        assert sorted(found) == [
            "a.toml:2: x: unknown key 'x'",
            "b.toml:2: not valid TOML: invalid statement, column 1",
            "c.toml: a directory, not a regular file",
            "e.toml: is empty; remove it, or leave a comment in it",
            "f.toml: no such file or directory",
            "g.toml: a FIFO, not a regular file (`-` reads standard input)",
        ]

    def test_without_files(self, tmp_path: Path) -> None:
        assert problems(str(tmp_path))[0].endswith("there is no *.toml file in this directory")

    def test_paths_are_relative_to_each_file(self, tmp_path: Path) -> None:
        write(tmp_path, WG, "a.toml")
        assert load(str(tmp_path)).tunnels[0].wireguard.private_key_file == str(tmp_path / "k")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gone.toml", "gone.toml: no such file or directory"),
        ("d.toml/x", "x: not a directory"),
        ("", "'': no such file or directory"),
        ("fifo", "fifo: a FIFO, not a regular file (`-` reads standard input)"),
        ("/dev/zero", "zero: a device, not a regular file"),
        ("a\0b", "a\\x00b: no path of a file (embedded null byte)"),
        ("latin1", "latin1:2: not UTF-8 text (byte 0xe4 in line 2)"),
        ("binary", "binary:1: not a text file (NUL in line 1)"),
        ("large", "large: too large (more than 16 MiB)"),
        ("x" * 300, "file name too long"),
        ("loop", "loop: too many levels of symbolic links"),
    ],
)
def test_no_desired_file(tmp_path: Path, name: str, said: str) -> None:
    write(tmp_path, TUN)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "latin1").write_bytes(b"version = 1\n# \xe4\n")
    (tmp_path / "binary").write_bytes(b"\x7fELF\0\0")
    (tmp_path / "loop").symlink_to("loop")
    with (tmp_path / "large").open("wb") as large:
        large.truncate((16 << 20) + 1)
    location = name if name.startswith("/") or not name else f"{tmp_path}/{name}"
    found = problems(location)
    assert len(found) == 1
    assert found[0].replace(f"{tmp_path}/", "").endswith(said)


def test_a_path_that_is_no_name_needs_a_source(tmp_path: Path) -> None:
    raw = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.toml")
    Path(raw).write_text("version = 1\n")
    with pytest.raises(InvalidFile) as caught:
        load(raw)
    str(caught.value.details[0]).encode()
    assert "`source` is required" in caught.value.details[0].message
    Path(raw).write_text("version = 1\nsource = 's'\n")
    assert load(raw).source == "s"


@only_root
class TestWritableByEverybody:
    """What everybody can write does not tell root what to do."""

    def test_file(self, tmp_path: Path) -> None:
        location = write(tmp_path, TUN)
        Path(location).chmod(0o646)
        assert problems(location) == [
            f"d.toml: is writable by everybody; run: chmod o-w {location}".replace(str(tmp_path) + "/", "")
        ]

    def test_directory_around_it(self, tmp_path: Path) -> None:
        around = tmp_path / "open"
        around.mkdir()
        location = write(around, TUN)
        around.chmod(0o777)
        assert "stands in" in problems(location)[0]
        around.chmod(0o1777)
        assert load(location).tunnels

    def test_directory_behind_a_link(self, tmp_path: Path) -> None:
        around = tmp_path / "open"
        around.mkdir()
        (tmp_path / "l.toml").symlink_to(write(around, TUN))
        around.chmod(0o777)
        assert "stands in" in problems(str(tmp_path / "l.toml"))[0]

    def test_directory_as_a_source(self, tmp_path: Path) -> None:
        around = tmp_path / "open"
        around.mkdir()
        write(around, TUN)
        around.chmod(0o1777)  # nobody can take a file away, anybody can add one
        assert "is writable by everybody" in problems(str(around))[0]


class TestSecrets:
    """No rights for others, not writable by the group; content never shown."""

    @pytest.mark.parametrize(
        ("mode", "said"),
        [
            (0o604, "k has mode 0604: others have rights on it; run: chmod 600 "),
            (0o620, "k has mode 0620: its group may write it; run: chmod 600 "),
            (0o666, "k has mode 0666: others have rights on it and its group may write it; run: chmod 600 "),
        ],
    )
    def test_mode(self, tmp_path: Path, mode: int, said: str) -> None:
        location = write(tmp_path, WG)
        (tmp_path / "k").chmod(mode)
        (found,) = problems(location)
        assert found.startswith(f"d.toml:6: tunnels.office.wireguard.private_key_file: {said}")
        (found,) = problems(location, lenient_files=True)

    @pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
    def test_good_mode(self, tmp_path: Path, mode: int) -> None:
        location = write(tmp_path, WG)
        (tmp_path / "k").chmod(mode)
        assert load(location).warnings == ()

    @only_root
    def test_owner(self, tmp_path: Path) -> None:
        location = write(tmp_path, WG)
        os.chown(tmp_path / "k", 12345, 0)
        assert "belongs to user id 12345" in problems(location)[0]

    def test_absent(self, tmp_path: Path) -> None:
        location = write(tmp_path, WG.replace('"k"', '"gone"'))
        assert problems(location) == ["d.toml:6: tunnels.office.wireguard.private_key_file: gone: no such file or directory"]
        (warning,) = load(location, lenient_files=True).warnings
        assert warning.endswith("gone: no such file or directory")

    @pytest.mark.parametrize("content", ["", "x", PRIVATE[:-1], PRIVATE * 2, "x" * 5000, PRIVATE[:-2] + "F="])
    def test_content(self, tmp_path: Path, content: str) -> None:
        location = write(tmp_path, WG)
        (tmp_path / "k").write_text(content)
        (found,) = problems(location)
        assert "does not hold a WireGuard key" in found or "too large" in found
        assert len(content) < 2 or content not in found

    def test_directory_and_fifo(self, tmp_path: Path) -> None:
        (tmp_path / "dir").mkdir()
        os.mkfifo(tmp_path / "fifo", 0o600)
        assert "a directory, not a regular file" in problems(write(tmp_path, WG.replace('"k"', '"dir"')))[0]
        assert "a FIFO, not a regular file" in problems(write(tmp_path, WG.replace('"k"', '"fifo"')))[0]

    @only_root
    def test_unreadable_is_a_warning(self, tmp_path: Path) -> None:
        """In a child without privileges: root may read everything."""
        location = write(tmp_path, WG)
        for around in (tmp_path, *tmp_path.parents):
            if around.stat().st_uid == 0 and around.stat().st_mode & 0o777 == 0o700:
                around.chmod(0o755)
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.setresuid(65534, 65534, 65534)
                os.write(write_end, "\n".join(load(location).warnings).encode())
            except BaseException as error:
                os.write(write_end, repr(error).encode())
            finally:
                os._exit(0)
        os.close(write_end)
        with os.fdopen(read_end) as stream:
            assert stream.read().endswith("/k: permission denied: not compared")
        os.waitpid(child, 0)

    def test_credential(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        location = write(tmp_path, WG.replace('"k"', '"credential:k"'))
        monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
        assert "CREDENTIALS_DIRECTORY is not set" in problems(location)[0]
        assert load(location, lenient_files=True).warnings == ()
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
        assert load(location).tunnels[0].wireguard.private_key_file == "credential:k"
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "gone"))
        assert "no such file" in problems(location)[0]
        assert "the name without slashes" in problems(write(tmp_path, WG.replace('"k"', '"credential:a/b"')))[0]


def test_restart_on_is_digested(tmp_path: Path) -> None:
    location = write(tmp_path, EXEC + 'restart_on = ["a", "b"]')
    assert len(problems(location)) == 2
    assert len(load(location, lenient_files=True).warnings) == 2
    digests = []
    for content in ("1", "2", "1"):
        (tmp_path / "a").write_text(content)
        (tmp_path / "b").write_text("x")
        digests.append(load(location).tunnels[0].exec_.restart_digest)
    assert digests[0] == digests[2] != digests[1]
    assert len(digests[0]) == len(sha256().hexdigest())


def test_users_that_are_not_here_are_warnings_to_check(tmp_path: Path) -> None:
    location = write(tmp_path, EXEC + 'user = "no-such-user-here"')
    (warning,) = load(location, lenient_files=True).warnings
    assert warning.endswith("there is no user 'no-such-user-here' on this machine")
