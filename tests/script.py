"""Runs a piece of Python in a process of its own."""

import os
import subprocess
import sys
import textwrap


def run(code, *, timeout=120, check=True, **env):
    """Return the completed process of `code`, with `env` added to the environment and None taking away."""
    environment = {**os.environ, **env}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env={k: v for k, v in environment.items() if v is not None},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=check,
    )
