"""Claims: one holder at a time, freed by the end of the process, whatever the end."""

import signal
import subprocess
import sys
import time

import pytest

from wamkit.errors import BusyError
from wamkit.storage import claim

HOLD = """
import sys, time
from pathlib import Path
from wamkit.storage import claim
with claim(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_claim_in_the_same_process_is_refused(tmp_path):
    with claim(tmp_path / "out"):
        refused = pytest.raises(BusyError, match=r"out is being written by process \d+ on ")
        with refused, claim(tmp_path / "out"):
            pass
        with claim(tmp_path / "other"):
            pass
    with claim(tmp_path / "out"):
        pass


def test_a_killed_holder_frees_its_claim(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline().strip() == "held"
    with pytest.raises(BusyError, match=f"process {holder.pid} on"), claim(tmp_path / "out"):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    time.sleep(0.05)
    with claim(tmp_path / "out"):
        pass
