"""The check of the commit subjects names the long ones, and passes where there is no history."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "check-subjects"
GIT = ("git", "-c", "user.name=Test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false")


def check(folder: Path, *revisions: str) -> tuple[int, str]:
    copy = folder / "scripts" / SCRIPT.name
    copy.parent.mkdir(exist_ok=True)
    shutil.copy(SCRIPT, copy)
    done = subprocess.run([sys.executable, copy, *revisions], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def commit(folder: Path, subject: str) -> None:
    subprocess.run([*GIT, "commit", "-q", "--allow-empty", "-m", subject, "-m", "b" * 100], cwd=folder, check=True)


def test_a_subject_of_72_characters_passes_and_a_longer_one_is_named(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    commit(tmp_path, "x" * 73)
    commit(tmp_path, "ä" * 72)
    assert check(tmp_path, "HEAD~1..HEAD") == (0, "")
    commit(tmp_path, "y" * 73)
    code, words = check(tmp_path, "HEAD~2..HEAD")
    assert (code, words.count("\n"), words.count("y")) == (1, 2, 73)


def test_without_the_history_there_is_nothing_to_check(tmp_path: Path) -> None:
    assert check(tmp_path) == (0, "")  # an unpacked archive
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    commit(tmp_path, "x" * 73)
    assert check(tmp_path) == (0, "")  # a clone without the commit at which the rule began
