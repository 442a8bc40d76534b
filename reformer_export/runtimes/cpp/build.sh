#!/bin/sh
# build.sh [--torch] [CMAKE OPTION...]: builds the C++ runtime in build/cpp and installs it for this
# machine into build/runtime/linux-<machine>, where `reformer-export package` looks for it. With
# --torch, it also runs TorchScript, with the libtorch of python3's torch; the names of both folders
# then end in -torch.
set -eu
cd "$(dirname "$0")/../../.."

kind=
if [ "${1:-}" = --torch ]; then
    shift
    kind=-torch
    torch=$(python3 -c 'import torch; print(torch.utils.cmake_prefix_path)')
    set -- -DREFORMER_LIBTORCH=ON "-DCMAKE_PREFIX_PATH=$torch" "$@"
fi
build=build/cpp$kind
# From the build of the kernels; else CMake searches. A build that has headers of its own keeps them:
# with another path, all of it would be compiled again.
headers=$PWD/build/native/onnxruntime-headers
[ -d "$build/onnxruntime-headers" ] || [ ! -d "$headers" ] || set -- "-DORT_INCLUDE_DIR=$headers" "$@"
for name in json cxxopts; do # from the build without --torch; else CMake searches
    headers=$PWD/build/cpp/$name-headers
    variable=$(echo $name | tr a-z A-Z)_INCLUDE_DIR
    [ -z "$kind" ] || [ ! -d "$headers" ] || set -- "-D$variable=$headers" "$@"
done

mkdir -p build
cmake -S reformer_export/runtimes/cpp -B "$build" -G Ninja "$@" >"$build.log" 2>&1 &&
    cmake --build "$build" >>"$build.log" 2>&1 &&
    cmake --install "$build" --strip --prefix "build/runtime/linux-$(uname -m)$kind" >>"$build.log" 2>&1 || {
    tail -n 40 "$build.log" >&2
    exit 1
}
