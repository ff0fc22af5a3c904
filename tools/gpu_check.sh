#!/usr/bin/env bash
# Builds, tests and measures the CUDA backend on a machine with a GPU: `tools/gpu_check.sh [FOLDER]`. Needs no network,
# but a CUDA compiler and, in the Python that is active: numpy, scipy, cupy, pybind11, scikit-build-core, pytest,
# hypothesis and ml_dtypes; cmake and ninja. PyTorch, Numba and compute-sanitizer are used where they are.
# Leaves in FOLDER (default: gpu-check): bench/run.json, summary.md with the tables, info.txt and tests.txt. Exits with 1 if a test fails.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(mkdir -p "${1:-gpu-check}" && cd "${1:-gpu-check}" && pwd)
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
SECONDS=0

say() { printf '\n=== %s (%ss)\n' "$*" "$SECONDS"; }

say build for the devices here
python3 -m pip install -q --no-build-isolation --no-deps --no-index --target "$site" \
  --config-settings=cmake.define.GRADSTEP_CUDA=ON --config-settings=cmake.define.GRADSTEP_CUDA_ARCHITECTURES=native . || exit 1
export PYTHONPATH="$site"
python3 -m gradstep info | tee "$out/info.txt"

say test
# First what only a device can show, the slow sanitizers last; what does not end in time is cut, and the summary shows
# how far it came.
timeout 270 python3 -m pytest -q -m gpu -p no:cacheprovider tests/gpu/test_gpu_device.py tests/gpu/test_gpu_minimize.py \
  $(ls tests/gpu/test_gpu_*.py | grep -v -e _device -e _minimize -e _sanitizer) tests/gpu/test_gpu_sanitizer.py 2>&1 | tee "$out/tests.txt" | tail -40
status=${PIPESTATUS[0]}

say measure
timeout 120 python3 -m bench --only gpu --output "$out/bench" || status=1

{
  echo "# GPU check, $(date -u +%F)"
  echo
  sed -n 's/^cuda  *//p' "$out/info.txt"
  echo
  echo "Tests: $(tail -1 "$out/tests.txt") (exit $status)"
  echo
  cat "$out/bench/report.md" 2>/dev/null
} >"$out/summary.md"
say "done: $out/summary.md"
exit "$status"
