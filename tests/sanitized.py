"""Run the core's tests with address and undefined-behaviour sanitizers in the compiled core.

``python tests/sanitized.py FOLDER [pytest's arguments]`` builds into the folder. An access
out of bounds, a use after free or an overflow ends the run with the sanitizer's report.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FLAGS = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined"


def main(folder: Path, arguments: list[str]) -> int:
    built = folder / "lib"
    build = [*(sys.executable, "setup.py", "--quiet", "build"), *("--build-base", str(folder))]
    environment = os.environ | {"CFLAGS": FLAGS, "LDFLAGS": FLAGS}
    subprocess.run([*build, "--build-lib", built], cwd=ROOT, env=environment, check=True)
    if not list(built.glob("maze/core/_compiled/*.so")):
        sys.exit("the compiled core was not built: a C compiler with sanitizers is needed")
    tests = [*("-m", "pytest", "-o", f"pythonpath={built}", "-p", "no:cacheprovider")]
    tests += ["tests/unit/core", "tests/unit/pipeline/test_outbox.py", "tests/property", *arguments]
    environment = os.environ | {
        "LD_PRELOAD": " ".join(map(_library, ("libasan.so", "libubsan.so"))),
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter itself leaks on purpose
        "PYTHONMALLOC": "malloc",  # so that Python's own objects are watched too
        "PYTHONSAFEPATH": "1",  # not the core that was built beside the sources
    }
    command = [sys.executable, *tests]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def _library(name: str) -> str:
    command = ["gcc", f"-print-file-name={name}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
