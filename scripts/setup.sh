#!/usr/bin/env bash
# Creates the virtual environment, installs wamkit into it and sees to the one system package it needs.
set -euo pipefail
PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}

fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

"$PYTHON" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
  || fail "$PYTHON is $("$PYTHON" -V 2>&1), but wamkit needs Python 3.11 to 3.13. Set PYTHON, e.g. make demo PYTHON=python3.12"

# MuJoCo renders without a display through OSMesa; an EGL driver does as well (MUJOCO_GL=egl).
if [ "${MUJOCO_GL:-osmesa}" = osmesa ] && ! { ldconfig -p 2>/dev/null || /sbin/ldconfig -p; } | grep libOSMesa >/dev/null; then
  sudo=""
  if [ "$(id -u)" -ne 0 ]; then sudo="sudo -n"; fi
  if command -v apt-get >/dev/null && { [ -z "$sudo" ] || $sudo true 2>/dev/null; }; then
    echo "setup: installing the Debian package libosmesa6"
    $sudo apt-get update -qq && $sudo apt-get install -y -qq --no-install-recommends libosmesa6 \
      || fail "apt-get could not install libosmesa6. Install it by hand, or use a GPU driver with MUJOCO_GL=egl"
  else
    fail "the system package libosmesa6 is missing and cannot be installed from here (no apt-get, or no rights). Ask for: apt-get install libosmesa6 (or use a GPU driver with MUJOCO_GL=egl)"
  fi
fi

"$PYTHON" -m venv "$VENV" || fail "$PYTHON cannot create a virtual environment. On Debian and Ubuntu: apt-get install python3-venv"
# The CPU build of torch is enough for everything here and 20 times smaller; an index that has one is asked first.
"$VENV/bin/python" -m pip install -q -c constraints.txt "torch==2.13.0" ${WAMKIT_TORCH_INDEX:+--index-url "$WAMKIT_TORCH_INDEX"}
"$VENV/bin/python" -m pip install -q -c constraints.txt -e ".[metaworld,report,text,flow,pretrained,kinematics,primitives,aloha,rerun,cluster,hdf5,tensorboard,dev]"
echo "setup: ready ($("$VENV/bin/python" -V), torch $("$VENV/bin/python" -c 'import torch; print(torch.__version__)'))"
