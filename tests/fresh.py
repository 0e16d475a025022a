"""Scripts in processes of their own: forks of an interpreter that has loaded other libraries and nothing of wamkit.

A fresh interpreter spends more time on importing torch and its friends than on most scripts of a test.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

LIBRARIES = (
    "av",
    "draccus",
    "gymnasium",
    "huggingface_hub.hf_api",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "pyarrow.parquet",
    "scipy.optimize",
    "scipy.spatial.transform",
    "scipy.stats",
    "torch._dynamo",
    "torchmetrics.functional.image",
)
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([*LIBRARIES])
TESTS = Path(__file__).parent
TIMEOUT_S = 120


def run_script(args: Sequence[str], folder: Path) -> tuple[int | None, str]:
    """Run ``python ARGS`` in ``folder``, from which modules can be imported; its status and all that it printed.

    ``args`` begin with a script or with ``-m`` and a module. The status is None when it has not ended in time.
    """
    path = [str(folder), *(p for p in sys.path if TESTS not in (Path(p), *Path(p).parents))]
    process = SERVER.Process(target=_run, args=(list(args), folder, path, dict(os.environ)))
    process.start()
    process.join(TIMEOUT_S)
    status = process.exitcode
    if status is None:
        process.kill()
        process.join()
    return status, (folder / "printed.txt").read_text(errors="replace")


def _run(args: list[str], folder: Path, path: list[str], environment: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment, PYTHONPATH=os.pathsep.join(path), OMP_NUM_THREADS="1")
    with (folder / "printed.txt").open("wb") as printed:
        os.dup2(printed.fileno(), 1)
        os.dup2(printed.fileno(), 2)
    assert not any(name.partition(".")[0] == "wamkit" for name in sys.modules)
    sys.path[:] = path
    if args[0] == "-m":
        sys.argv = args[1:]
        runpy.run_module(args[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = args
        sys.path[:0] = [str((folder / args[0]).parent)]
        runpy.run_path(args[0], run_name="__main__")
