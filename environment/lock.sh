#!/usr/bin/env bash
# Renews a lock: bash environment/lock.sh cpu, or bash environment/lock.sh cuda.
# Needs uv (pip install uv==0.13.9) and the network. Versions of an existing lock are kept where
# requirements-dev.txt allows them; UPGRADE=1 takes the newest.
# TORCH_WHEELS: a folder with a downloaded CPU wheel of PyTorch, in place of PyTorch's page.
set -euo pipefail
cd "$(dirname "$0")/.."
build="${1:-}"
sources=(requirements-dev.txt)
options=()
case "$build" in
  cpu)
    sources+=(environment/cpu.in)
    options+=(--find-links "${TORCH_WHEELS:-https://download.pytorch.org/whl/cpu/torch/}")
    ;;
  cuda) ;;
  *)
    echo "usage: bash environment/lock.sh cpu|cuda" >&2
    exit 2
    ;;
esac
if [ -n "${UPGRADE:-}" ]; then options+=(--upgrade); fi
uv pip compile "${sources[@]}" --quiet --generate-hashes \
  --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
  --default-index https://pypi.org/simple "${options[@]}" \
  --custom-compile-command "bash environment/lock.sh $build" \
  --output-file "environment/lock-$build.txt"
if [ "$build" = cpu ]; then
  # Where pip finds the one file that PyPI does not have
  version="$(sed -n 's/^torch==//p' environment/cpu.in)"
  wheel="torch-${version/+/%2B}-cp311-cp311-manylinux_2_28_x86_64.whl"
  sed -i "2a --find-links https://download.pytorch.org/whl/cpu/$wheel" environment/lock-cpu.txt
fi
