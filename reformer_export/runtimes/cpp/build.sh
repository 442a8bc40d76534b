#!/bin/sh
# build.sh [CMAKE OPTION...]: builds the C++ runtime in build/cpp and installs it for this machine
# into build/runtime/linux-<machine>, where `reformer-export package` looks for it.
set -eu
cd "$(dirname "$0")/../../.."

headers=$PWD/build/native/onnxruntime-headers # from the kernels; else they are found anew
[ ! -d "$headers" ] || set -- "-DORT_INCLUDE_DIR=$headers" "$@"
mkdir -p build
cmake -S reformer_export/runtimes/cpp -B build/cpp -G Ninja "$@" >build/cpp.log 2>&1 &&
    cmake --build build/cpp >>build/cpp.log 2>&1 &&
    cmake --install build/cpp --strip --prefix "build/runtime/linux-$(uname -m)" >>build/cpp.log 2>&1 || {
    tail -n 40 build/cpp.log >&2
    exit 1
}
