"""What OSS-Fuzz is given: `build.sh` makes a program and a corpus of every target."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

from fuzz.harness import FOLDER, corpus_of, targets

PROJECT = FOLDER / "oss-fuzz"
BUILDER = """#!/bin/sh
name=$(basename -s .py "$1")
test -f "$1" || exit 1
echo "$@" > "$OUT/$name"
"""


def test_the_build_script_makes_every_target(tmp_path: Path) -> None:
    tools, out = tmp_path / "tools", tmp_path / "out"
    tools.mkdir()
    out.mkdir()
    for name, text in {"pip3": "#!/bin/sh\nexit 0\n", "compile_python_fuzzer": BUILDER}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o700)
    (tools / "python3").symlink_to(sys.executable)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "OUT": str(out), "PATH": path, "PYTHONPATH": str(FOLDER.parent)}
    subprocess.run(
        ["bash", "-eu", PROJECT / "build.sh"], cwd=FOLDER.parent, env=environment, check=True
    )
    made = sorted(path.name for path in out.iterdir() if path.suffix != ".zip")
    assert made == [f"fuzz_{name}" for name in targets()]
    for name in targets():
        assert f"--hidden-import fuzz.fuzz_{name}" in (out / f"fuzz_{name}").read_text()
        with ZipFile(out / f"fuzz_{name}_seed_corpus.zip") as corpus:
            assert [corpus.read(entry) for entry in corpus.namelist()] == corpus_of(name)


def test_the_project_is_described_as_oss_fuzz_wants_it() -> None:
    described = (PROJECT / "project.yaml").read_text()
    for member in ("homepage", "main_repo", "primary_contact", "fuzzing_engines", "sanitizers"):
        assert re.search(rf"^{member}:", described, re.MULTILINE), member
    assert "language: python" in described
    dockerfile = (PROJECT / "Dockerfile").read_text()
    assert "FROM gcr.io/oss-fuzz-base/base-builder-python" in dockerfile
    assert "COPY build.sh $SRC/" in dockerfile
