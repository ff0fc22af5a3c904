#!/usr/bin/env bash
# Writes python/gradstep/_cpu.pyi from the installed module. With --check, fails if that would change it.
set -euo pipefail
cd "$(dirname "$0")/.."
stub=python/gradstep/_cpu.pyi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

pybind11-stubgen gradstep._cpu -o "$out" --exit-code
# Values that differ from one build to the next go; the bare containers get the types that plan.h and bind.h give them.
sed -E -i \
  -e '/^[a-z_]+: .* = /s/ = .*//' \
  -e 's/^flags: dict$/flags: dict[str, str]/' \
  -e 's/^states: dict$/states: dict[str, list[str]]/' \
  -e 's/^numbers: list$/numbers: list[str]/' \
  -e 's/\bvalues: dict\b/values: dict[str, typing.Any]/' \
  -e 's/: tuple([,)])/: tuple[typing.Any, ...]\1/g' \
  -e 's/: list([,)])/: list[typing.Any]\1/g' \
  -e 's/typing\.SupportsInt \| typing\.SupportsIndex/typing.SupportsIndex/g' \
  "$out/gradstep/_cpu.pyi"

if [ "${1:-}" = --check ]; then
  diff -u "$stub" "$out/gradstep/_cpu.pyi"
else
  cp "$out/gradstep/_cpu.pyi" "$stub"
fi
