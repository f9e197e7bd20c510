"""`python -m spec`: writes what is generated, or says with `--check` what is stale.

Rules: exit code 1 when something is stale, missing, left over, or does not verify.
Left to others: the content (`document`, `machines`, `vectors`), the second reading (`decode`).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from spec import decode, document, machines, vectors

ROOT = Path(__file__).resolve().parent.parent
PROTOCOL = ROOT / "PROTOCOL.md"
MACHINES = ROOT / "spec" / "machines"
VECTORS = ROOT / "spec" / "vectors"


def outputs() -> dict[Path, str]:
    """Every generated file and what belongs into it."""
    files = {MACHINES / f"{t.name}.json": machines.as_json(t) for t in machines.tables()}
    files |= {VECTORS / name: text for name, text in vectors.files(VECTORS).items()}
    files[PROTOCOL] = document.filled(PROTOCOL.read_text(encoding="utf-8"))
    return files


def left_over(files: dict[Path, str]) -> list[Path]:
    """Files in the generated folders that nothing generates."""
    present = [*MACHINES.glob("*"), *VECTORS.glob("*")]
    return sorted(path for path in present if path not in files)


def stale(files: dict[Path, str]) -> list[Path]:
    """Generated files that are not as they should be."""
    return [
        path
        for path, text in files.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def check(files: dict[Path, str]) -> int:
    wrong = [*stale(files), *left_over(files)]
    for path in wrong:
        print(f"stale: {path.relative_to(ROOT)}")
    if wrong:
        print("run `python -m spec` (or `make spec`), look at the difference, and commit it")
        return 1
    return decode.main(VECTORS)


def write(files: dict[Path, str]) -> int:
    for path in left_over(files):
        path.unlink()
        print(f"removed {path.relative_to(ROOT)}")
    for path in stale(files):
        path.parent.mkdir(exist_ok=True)
        path.write_text(files[path], encoding="utf-8", newline="\n")
        print(f"wrote {path.relative_to(ROOT)}")
    return decode.main(VECTORS)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m spec", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when stale")
    arguments = parser.parse_args()
    return check(outputs()) if arguments.check else write(outputs())


if __name__ == "__main__":
    sys.exit(main())
