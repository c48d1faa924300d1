"""Run a piece of a test as a user without privileges, also where the tests run as root."""

from __future__ import annotations

import os
import shutil
import tempfile
import traceback
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def directory_of_ordinary_user():
    """An empty directory of the user that :func:`as_ordinary_user` becomes."""
    path = Path(tempfile.mkdtemp(prefix="rigup-test-"))
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    try:
        yield path
    finally:
        for root, directories, _ in os.walk(path):
            for name in directories:
                if not os.path.islink(os.path.join(root, name)):
                    os.chmod(os.path.join(root, name), 0o700)
        shutil.rmtree(path, ignore_errors=True)


def as_ordinary_user(function):
    """Call ``function`` in a child process that is not root; AssertionError where it raises."""
    if os.geteuid() != 0:
        return function()
    report_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            function()
        except BaseException:
            os.write(write_end, traceback.format_exc().encode()[:60000])
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(report_end, "rb") as file:
        report = file.read().decode()
    os.waitpid(pid, 0)
    assert not report, report
    return None
