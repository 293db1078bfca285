#!/usr/bin/env bash
# The runtime on 64-bit ARM, on a PC, by emulating the processor alone: `make test-arm`.
#
#     tests/arm.sh PYTHON [HOME]        # PYTHON: of the environment that runs the tests; HOME: default runs/arm
#
# Debian's emulator and Debian's Python for ARM are unpacked into HOME, nothing is installed: apt (Debian, Ubuntu) is all
# that is needed, and the first run takes minutes. Packages are those that JetPack 6 resolves to: numpy 1.26.4 and
# onnxruntime 1.23.2, the last ones for its Python 3.10; Debian 12 has no 3.10, so Python is 3.11.
#
# The bundled INT8 model runs on three processors, and no value of a picture may be more than one level from this PC's:
#   cortex-a72  Raspberry Pi 4: no dot-product instructions
#   cortex-a76  Raspberry Pi 5: dot products (udot, sdot)
#   max         everything that the emulator knows, matrix products (smmla) with it
# Then the runtime's own tests that need no clock. No time is measured: an emulator's says nothing.
set -euo pipefail
python="$(cd "$(dirname "$1")" && pwd)/$(basename "$1")"
here="$(cd "$(dirname "$0")/.." && pwd)"
home="${2:-$here/runs/arm}"
mkdir -p "$home"
home="$(cd "$home" && pwd)"
root="$home/root"
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
    { echo "error: test-arm needs apt (Debian or Ubuntu), which unpacks the emulator and Python"; exit 2; }

if [ ! -e "$home/ready" ]; then
    rm -rf "$root" "$home/debs" "$home/state"
    mkdir -p "$root" "$home/debs/partial" "$home/state/lists/partial" "$home/etc"
    # Its own package lists, so that the machine's stay as they are.
    mirror="$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -1)"
    echo "deb [arch=arm64,amd64 trusted=yes] $mirror bookworm main" >"$home/etc/sources.list"
    cat >"$home/apt.conf" <<CONF
Dir::State "$home/state";
Dir::State::status "$home/state/status";
Dir::Cache "$home/debs";
Dir::Etc::sourcelist "$home/etc/sources.list";
Dir::Etc::sourceparts "/nonexistent";
APT::Architecture "arm64";
APT::Architectures {"arm64"; "amd64";};
Acquire::Languages "none";
CONF
    : >"$home/state/status"
    export APT_CONFIG="$home/apt.conf"
    apt-get update -qq
    cd "$home/debs"
    apt-get download -qq qemu-user-static:amd64 python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 \
        libgcc-s1 libstdc++6 libgomp1 libexpat1 zlib1g libssl3 libffi8 liblzma5 libbz2-1.0 libsqlite3-0 libuuid1 \
        libreadline8 libtinfo6 libncursesw6 libcrypt1 libtirpc3 libnsl2 libdb5.3 media-types
    for package in *_arm64.deb *_all.deb; do dpkg-deb -x "$package" "$root"; done
    dpkg-deb --fsys-tarfile qemu-user-static_*.deb | tar xf - -C "$home" ./usr/bin/qemu-aarch64-static
    cd "$here"
    wheels=(--only-binary=:all: --python-version 3.11 --implementation cp)
    for platform in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014; do wheels+=(--platform "${platform}_aarch64"); done
    # OpenCV without its window: the emulated root has no display.
    "$python" -m pip install --quiet --disable-pip-version-check --target "$root/site" "${wheels[@]}" \
        numpy==1.26.4 onnxruntime==1.23.2 opencv-python-headless==4.10.0.84 tqdm 'onnx>=1.17,<1.19' 'av>=16,<18' pytest hypothesis
    touch "$home/ready"
fi

# The emulated Python as one command, so that tests can start it too. PROCESSOR is what it emulates.
cat >"$home/python" <<SCRIPT
#!/bin/sh
exec "$home/usr/bin/qemu-aarch64-static" -L "$root" -cpu "\${PROCESSOR:-max}" -E PYTHONPATH="$root/site" \\
    -E PYTHONHOME="$root/usr" -E PYTHONDONTWRITEBYTECODE=1 "$root/usr/bin/python3.11" "\$@"
SCRIPT
chmod +x "$home/python"

cd "$here"
rm -rf "$home/pictures"
translate=(runtime/run.py --engine models/facades.int8.cpu.onnx --source samples --sink)
"$python" "${translate[@]}" "$home/pictures/here/" --backend onnxruntime >/dev/null # the engine that ARM has
kernels() { grep -cE ":  ($2) " "$home/$1.asm" || true; } # how many such instructions were translated
for processor in cortex-a72 cortex-a76 max; do
    PROCESSOR="$processor" QEMU_LOG=in_asm QEMU_LOG_FILENAME="$home/$processor.asm" "$home/python" "${translate[@]}" \
        "$home/pictures/$processor/" >"$home/$processor.log" 2>&1 || { tail -20 "$home/$processor.log"; exit 1; }
    dot="$(kernels "$processor" '[46](f[89ab].e[0-9a-f]..|e[89].9[4-7]..)')" # udot, sdot: by element, by vector
    matrix="$(kernels "$processor" '[46]e[89].a[4-7]..')"                     # ummla, smmla
    echo "$processor: $dot dot-product and $matrix matrix-product instructions in the code that ran"
    case "$processor" in
        cortex-a72) test "$dot" = 0 && test "$matrix" = 0 ;;
        cortex-a76) test "$dot" -gt 0 && test "$matrix" = 0 ;;
        max) test "$matrix" -gt 0 ;;
    esac || { echo "ONNX Runtime took other kernels than this processor has"; exit 1; }
    rm "$home/$processor.asm"
done
"$python" - "$home/pictures" <<'PYTHON'
import sys
from pathlib import Path

import cv2
import numpy as np

folder = Path(sys.argv[1])
names = sorted(path.name for path in (folder / "here").iterdir())
assert names
for processor in ("cortex-a72", "cortex-a76", "max"):
    pairs = [[cv2.imread(str(folder / side / name)).astype(int) for side in ("here", processor)] for name in names]
    difference = np.abs(np.stack([there - here for here, there in pairs]))
    print(f"{processor}: {len(names)} pictures, at most {difference.max()} levels from this PC, {(difference > 0).sum()} of"
          f" {difference.size} values differ")
    assert difference.max() <= 1, "more than rounding"
PYTHON
# Left out: sinks' test_disk_full, which counts lines of stderr, where the emulated processor's unknown vendor is named.
export PROCESSOR=cortex-a76
"$home/python" -c 'import sys, pytest; sys.executable = sys.argv[1]; sys.exit(pytest.main(sys.argv[2:]))' "$home/python" \
    -q -p no:cacheprovider -W ignore tests/runtime/test_{frame,images,files,sidecar,errors,board}.py tests/runtime/engines/ \
    tests/runtime/nvidia/test_{capabilities,plan}.py tests/runtime/sinks/test_{sinks,encoders}.py tests/runtime/sources/test_sources.py
