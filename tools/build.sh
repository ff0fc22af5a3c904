#!/usr/bin/env bash
# Rebuilds the checkout into the active environment, keeping its object files; warnings are errors.
set -eu
cd "$(dirname "$0")/.."
python -m pip install -q --no-build-isolation --no-deps --config-settings=cmake.define.GRADSTEP_WERROR=ON . "$@"
