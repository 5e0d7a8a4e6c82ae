"""`key` with --json: one document on stdout, and no private key in it that went to a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]


def key(tmp_path: Path, *words: str, stdin: str = "", code: int = 0) -> str:
    argv = [sys.executable, "-m", "reconciler", "key", *words]
    environment = {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run(argv, cwd=tmp_path, env=environment, input=stdin, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done
    return done.stdout


def document(text: str) -> Any:
    assert text.count("\n") == 1
    return json.loads(text)


@pytest.mark.parametrize("kind", ["x25519", "ed25519"])
def test_one_document_on_stdout(tmp_path: Path, kind: str) -> None:
    made = document(key(tmp_path, "generate", "--type", kind, "--json"))
    assert made.keys() == {"version", "file", "type", "public_key", "private_key"}
    assert (made["version"], made["file"], made["type"]) == (1, None, kind)
    assert key(tmp_path, "public", stdin=made["private_key"] + "\n").rstrip("\n") == made["public_key"]
    told = document(key(tmp_path, "public", "--json", stdin=made["private_key"]))
    assert told == {"version": 1, "file": None, "public_key": made["public_key"]}


def test_a_key_that_could_not_be_written_whole_leaves_no_file(tmp_path: Path) -> None:
    """The next try would take an empty file for a key, and never overwrite it."""
    shell = 'ulimit -f 0; exec "$@"'
    argv = [
        "sh",
        "-c",
        shell,
        "sh",
        sys.executable,
        "-B",
        "-m",
        "reconciler",
        "key",
        "generate",
        "--type",
        "x25519",
        "--out",
        "k",
    ]
    done = subprocess.run(argv, cwd=tmp_path, env={"PYTHONPATH": str(PROJECT)}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (65, "error: k: File too large\n")
    assert not (tmp_path / "k").exists()


@pytest.mark.parametrize("kind", ["x25519", "ed25519"])
def test_a_key_that_went_to_its_file_is_not_said(tmp_path: Path, kind: str) -> None:
    made = document(key(tmp_path, "generate", "--type", kind, "--out", "k", "--json"))
    private = (tmp_path / "k").read_text()
    assert made == {"version": 1, "file": "k", "type": kind, "public_key": key(tmp_path, "public", stdin=private).rstrip("\n")}
    told = document(key(tmp_path, "public", "--in", "k", "--out", "p", "--json"))
    assert told == {"version": 1, "file": "p", "public_key": made["public_key"]}
    assert (tmp_path / "p").read_text() == made["public_key"] + "\n"
    refused = document(key(tmp_path, "generate", "--type", kind, "--out", "k", "--json", code=65))
    assert refused["error"]["code"] == 65
    assert (tmp_path / "k").read_text() == private


def test_for_people_it_is_the_key_alone(tmp_path: Path) -> None:
    private = key(tmp_path, "generate", "--type", "x25519")
    assert (len(private), private[-1]) == (45, "\n")
    assert key(tmp_path, "generate", "--type", "x25519", "--out", "k") == ""
