#!/bin/sh
# cross_aarch64.sh PYTHON: builds the kernels, the C++ runtime and reformer-run for aarch64 Linux
# into build/runtime/linux-aarch64, and adds the release of ONNX Runtime that constraints.txt names.
#
# It uses Debian's cross compiler. If that is not installed, its packages are unpacked under
# build/aarch64; nothing is installed.
set -eu
python=$1
cd "$(dirname "$0")/../../.."
root=$PWD
work=$root/build/aarch64
prefix=$root/build/runtime/linux-aarch64
mkdir -p "$work"
log=$work/log
: >"$log"

step() { # NAME COMMAND...: runs a command; if it fails, prints the end of the log and exits
    echo "$1" >&2
    shift
    "$@" >>"$log" 2>&1 || {
        tail -n 30 "$log" >&2
        echo "failed; the full log is $log" >&2
        exit 1
    }
}

# -- compiler --------------------------------------------------------------------------------------

tools=
if ! command -v aarch64-linux-gnu-g++ >/dev/null; then
    tools=$work/tools
    if [ ! -d "$tools" ]; then
        rm -rf "$tools.partial"
        step "fetching Debian's cross compiler (60 MB)" \
            sh custom_ops/cmake/fetch_debian.sh "$tools.partial" host g++-aarch64-linux-gnu
        mv "$tools.partial" "$tools"
    fi
    # The assembler and the linker search for their libraries in the system's folders.
    export LD_LIBRARY_PATH="$tools/usr/lib/$(uname -m)-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi
set -- -G Ninja "-DCMAKE_TOOLCHAIN_FILE=$root/reformer_export/runtimes/cpp/cmake/aarch64.cmake" \
    "-DAARCH64_TOOLS=$tools" -DREFORMER_TORCH=OFF -DREFORMER_ORT=ON
headers=$root/build/native/onnxruntime-headers # from the native kernels; else CMake searches
[ ! -d "$headers" ] || set -- "$@" "-DORT_INCLUDE_DIR=$headers"

# -- kernels and runtime ---------------------------------------------------------------------------

for project in custom_ops reformer_export/runtimes/cpp; do
    build=$work/$(basename $project)
    step "configuring $project" cmake -S $project -B "$build" "$@"
    step "compiling $project" cmake --build "$build"
done
step "installing" cmake --install "$work/cpp" --strip --prefix "$prefix"
cp "$work/custom_ops/libreformer_ops_ort.so" "$prefix/lib"

# -- ONNX Runtime ----------------------------------------------------------------------------------

wheels=$work/wheels
if ! ls "$wheels"/onnxruntime-*.whl >/dev/null 2>&1; then
    step "fetching ONNX Runtime for aarch64 (20 MB)" \
        "$python" -m pip download --quiet --no-deps --only-binary=:all: \
        --platform manylinux_2_28_aarch64 --constraint constraints.txt --dest "$wheels" onnxruntime
fi
step "unpacking ONNX Runtime" "$python" -m zipfile -e "$wheels"/onnxruntime-*.whl "$wheels/unpacked"
for file in "$wheels"/unpacked/onnxruntime/capi/libonnxruntime.so.*; do
    cp "$file" "$prefix/lib"
done
mkdir -p "$prefix/share/licenses/onnxruntime"
cp "$wheels"/unpacked/onnxruntime/LICENSE "$wheels"/unpacked/onnxruntime/ThirdPartyNotices.txt \
    "$prefix/share/licenses/onnxruntime"
echo "$prefix"
