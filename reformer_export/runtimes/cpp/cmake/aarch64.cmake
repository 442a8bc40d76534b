# Toolchain for aarch64 Linux: Debian's cross compiler, installed or unpacked in AARCH64_TOOLS.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES AARCH64_TOOLS)
if(AARCH64_TOOLS)
    set(CMAKE_SYSROOT ${AARCH64_TOOLS})
    set(bin ${AARCH64_TOOLS}/usr/bin/)
endif()
set(CMAKE_C_COMPILER ${bin}aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER ${bin}aarch64-linux-gnu-g++)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE BOTH) # the required headers are the same on all platforms
