"""Containers: servers as process 1, without HOME, with nobody's rights and a read-only root."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from end_to_end.running import ROOT, Child
from programs import installed

from .wrapped import wrap_servers

NOBODY = 65534

IMAGE = ("/usr", "/lib", "/lib64", "/bin", "/etc")
"""What the container has of the machine, besides Python and the repository."""

SCRIPT = """\
set -eu
root=$1; shift
mount -t tmpfs -o mode=755 tmpfs "$root"
mkdir "$root/proc" "$root/dev" "$root/tmp" "$root/data"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=777 tmpfs "$root/data"
while [ "$1" != -- ]; do
    if [ -e "$1" ]; then
        mkdir -p "$root$1"
        mount --rbind "$1" "$root$1"
        mount -o remount,bind,ro "$root$1"
    fi
    shift
done
shift
mount -o remount,ro "$root"
exec chroot "$root" setpriv --reuid $user --regid $user --clear-groups --no-new-privs \\
    --bounding-set=-all --pdeathsig KILL env -i --chdir="$folder" \\
    PYTHONPATH="$PYTHONPATH" $environment "$@"
"""
"""Makes a root of read-only folders, and an empty one, /data, that can be written."""


def contain_servers(monkeypatch: pytest.MonkeyPatch, folder: Path, *environment: str) -> None:
    """Make ``Child`` start each server in a container with an environment of these variables.

    Skip the test if this process may not make one.
    """
    if os.geteuid():
        pytest.skip("only root can make a container")
    root = folder / "root"
    root.mkdir()
    script = folder / "contain"
    variables = {"user": str(NOBODY), "folder": str(ROOT), "environment": shlex.join(environment)}
    given = "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())
    script.write_text(given + SCRIPT)
    seen = dict.fromkeys((*IMAGE, sys.base_prefix, os.path.realpath(sys.prefix), str(ROOT)))
    shell = ["exec", installed("unshare"), "--mount", "--pid", "--fork", "--kill-child", "sh"]
    shell += [str(script), str(root), *seen, "--"]
    wrap_servers(monkeypatch, folder, shlex.join(shell))


def processes(child: Child) -> Iterator[int]:
    """Yield the processes of a container, process 1 first."""
    waiting = [child.process.pid]
    while waiting:
        pid = waiting.pop(0)
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        waiting += map(int, found)
        yield from map(int, found)
