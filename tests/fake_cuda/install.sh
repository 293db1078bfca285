#!/usr/bin/env bash
# Real pycuda and real cuda-bindings for a machine without a CUDA toolkit, a driver or a GPU: what tests/fake_cuda runs.
#
#     tests/fake_cuda/install.sh PYTHON      # PYTHON: of the environment that runs the tests, as .venv/bin/python
#
# They go into fake-cuda/site of that environment, where only the tests look. Once, one to six minutes, and about 100 MB.
set -euo pipefail
python="$(cd "$(dirname "$1")" && pwd)/$(basename "$1")"
home="$("$python" -c 'import sys; print(sys.prefix)')/fake-cuda"
site="$home/site"
command -v c++ >/dev/null && command -v cc >/dev/null ||
    { echo "no C++ compiler here: tests over real pycuda will be skipped (Debian: apt install g++)"; exit 0; }
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
rm -rf "$home"
mkdir -p "$site" "$work/link" "$work/toolkit"
pip() { "$python" -m pip "$1" --quiet --disable-pip-version-check "${@:2}"; }
pip install --target "$site" 'cuda-bindings==13.0.*' pytools platformdirs mako
pip install --target "$work/headers" --no-deps 'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-profiler-api==13.0.*' \
    'nvidia-cuda-crt==13.0.*'
pip install --target "$work/setuptools" 'setuptools<81'
pip download --no-deps --dest "$work" 'pycuda==2026.1'
cp -r "$work/headers/nvidia/cu13/include" "$home/include" # the driver of tests/fake_cuda is compiled against it too
ln -s "$home/include" "$work/toolkit/include"
echo 'int cuInit(void) { return 0; }' | cc -shared -Wl,-soname,libcuda.so.1 -x c - -o "$work/link/libcuda.so" # its name
tar xzf "$work"/pycuda-*.tar.gz -C "$work"
cd "$work"/pycuda-*/
export PYTHONPATH="$work/setuptools" CFLAGS="-O0 -g0 -w"
"$python" configure.py --cuda-root="$work/toolkit" --no-cuda-enable-curand --cudadrv-lib-dir="$work/link" >/dev/null
"$python" setup.py -q build_ext -j "$(nproc)" build >"$work/log" 2>&1 || { tail -20 "$work/log"; exit 1; }
cp -r build/lib*/pycuda "$site/"
echo "pycuda and cuda-bindings are in $site"
