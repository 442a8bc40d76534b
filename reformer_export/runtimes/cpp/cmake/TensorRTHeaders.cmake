# find_tensorrt_headers(<result> <note>): finds the include folder of TensorRT or TensorRT-RTX; if
# there is none, `note` is the reason. A runtime built with these headers runs engines of that
# release. The places, in this order:
#
#   TENSORRT_INCLUDE_DIR   CMake or environment variable: if set, no other place is searched
#   installed headers      or a copy on CMAKE_PREFIX_PATH
#   a wheel                from PyPI, with the headers of TensorRT 10.14.1 under Apache-2.0
#
# The headers of TensorRT-RTX are published only in its SDK. REFORMER_FETCH=OFF skips the wheel.

set(TENSORRT_WHEEL kernel-lens==2.0.1)
set(TENSORRT_WHEEL_SHA256 07cc714e8b5e7f34b672f7c7fad93febe7c747be5837ba276b1527370134ffe0)
set(TENSORRT_WHEEL_INSIDE kernel_lens/include/tensorrt)

# Unpacks the wheel's headers into `folder`. Sets `problem` to the error, or to an empty text.
function(fetch_tensorrt_headers folder problem)
    message(STATUS "Fetching the headers of TensorRT")
    set(attempt "${folder}.partial")
    file(REMOVE_RECURSE "${attempt}")
    find_program(python NAMES python3 python NO_CACHE)
    if(NOT python)
        set(${problem} "and cannot be fetched without Python" PARENT_SCOPE)
        return()
    endif()
    execute_process(COMMAND "${python}" -m pip download --quiet --disable-pip-version-check --no-deps
                            --only-binary=:all: --dest "${attempt}" ${TENSORRT_WHEEL}
                    RESULT_VARIABLE failed OUTPUT_VARIABLE output ERROR_VARIABLE output)
    file(GLOB wheel "${attempt}/*.whl")
    if(failed OR NOT wheel)
        string(STRIP "${output}" output)
        string(REGEX REPLACE ".*\n" "" last_line "${output}")
        set(${problem} "and cannot be fetched (${last_line})" PARENT_SCOPE)
    else()
        file(SHA256 "${wheel}" found)
        if(NOT found STREQUAL TENSORRT_WHEEL_SHA256)
            set(${problem} "and the fetched wheel has the wrong sha256 ${found}" PARENT_SCOPE)
        else()
            file(ARCHIVE_EXTRACT INPUT "${wheel}" DESTINATION "${attempt}/unpacked")
            file(RENAME "${attempt}/unpacked/${TENSORRT_WHEEL_INSIDE}" "${folder}")
            set(${problem} "" PARENT_SCOPE)
        endif()
    endif()
    file(REMOVE_RECURSE "${attempt}")
endfunction()

function(find_tensorrt_headers result note)
    set(header NvInferRuntime.h)
    set(reason "")
    if(NOT TENSORRT_INCLUDE_DIR)
        set(TENSORRT_INCLUDE_DIR "$ENV{TENSORRT_INCLUDE_DIR}")
    endif()
    if(TENSORRT_INCLUDE_DIR)
        find_path(found ${header} PATHS "${TENSORRT_INCLUDE_DIR}" NO_DEFAULT_PATH NO_CACHE)
        if(NOT found)
            message(FATAL_ERROR "TENSORRT_INCLUDE_DIR=${TENSORRT_INCLUDE_DIR} has no ${header}")
        endif()
    else()
        find_path(found ${header} NO_CACHE)
        set(reason "${header} is not installed")
        if(NOT found AND REFORMER_FETCH)
            set(folder "${CMAKE_CURRENT_BINARY_DIR}/tensorrt-headers")
            if(NOT EXISTS "${folder}/${header}")
                fetch_tensorrt_headers("${folder}" problem)
            endif()
            if(EXISTS "${folder}/${header}")
                set(found "${folder}")
            else()
                string(APPEND reason " ${problem}")
            endif()
        endif()
    endif()
    if(found)
        message(STATUS "TensorRT headers: ${found}")
    endif()
    set(${result} "${found}" PARENT_SCOPE)
    set(${note} "${reason}" PARENT_SCOPE)
endfunction()
