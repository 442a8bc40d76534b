# find_ort_headers(<result> <note>): the folder of ONNX Runtime's C++ headers, or the reason why
# there is none. No Python package holds them. In this order:
#
#   ORT_INCLUDE_DIR                  CMake or environment variable: this one and no other
#   an installed libonnxruntime-dev  or an unpacked release on CMAKE_PREFIX_PATH
#   the Debian package               unpacked into the build folder, where apt-get is at hand
#   the release                      its headers, from the project's public repository
#
# REFORMER_FETCH=OFF leaves out the two that need a network.

option(REFORMER_FETCH "Fetch the headers of ONNX Runtime where none are installed" ON)

set(ORT_RELEASE 1.21.0)  # as Debian 13 has it; the library made with it loads into later ones too
set(ORT_RELEASE_URL
    https://raw.githubusercontent.com/microsoft/onnxruntime/v${ORT_RELEASE}/include/onnxruntime/core/session)

function(find_ort_headers result note)
    set(header onnxruntime_cxx_api.h)
    set(reason "")
    if(NOT ORT_INCLUDE_DIR)
        set(ORT_INCLUDE_DIR "$ENV{ORT_INCLUDE_DIR}")
    endif()
    if(ORT_INCLUDE_DIR)
        find_path(found ${header} PATHS "${ORT_INCLUDE_DIR}" NO_DEFAULT_PATH NO_CACHE
                  PATH_SUFFIXES onnxruntime onnxruntime/core/session)
        if(NOT found)
            set(reason "ORT_INCLUDE_DIR=${ORT_INCLUDE_DIR} has no ${header}")
        endif()
    else()
        find_path(found ${header} NO_CACHE PATH_SUFFIXES onnxruntime onnxruntime/core/session)
        if(NOT found)
            set(reason "${header} is not installed")
        endif()
        if(NOT found AND REFORMER_FETCH)
            set(folder "${CMAKE_CURRENT_BINARY_DIR}/onnxruntime-headers")
            if(NOT EXISTS "${folder}/${header}")
                fetch_ort_headers("${folder}" problem)
            endif()
            if(EXISTS "${folder}/${header}")
                set(found "${folder}")
            else()
                string(APPEND reason " ${problem}")
            endif()
        endif()
    endif()

    if(found)
        file(STRINGS "${found}/onnxruntime_c_api.h" line REGEX "define ORT_API_VERSION ")
        string(REGEX MATCH "[0-9]+" version "${line}")
        if(version LESS 21)
            set(reason "${found} is of ONNX Runtime 1.${version}, older than 1.21")
            set(found "")
        else()
            message(STATUS "ONNX Runtime headers: ${found} (1.${version})")
        endif()
    endif()
    if(NOT found)
        string(APPEND reason ": install libonnxruntime-dev (1.21 or later), or set ORT_INCLUDE_DIR "
               "to the include folder of an unpacked release")
    endif()
    set(${result} "${found}" PARENT_SCOPE)
    set(${note} "${reason}" PARENT_SCOPE)
endfunction()

# Puts the headers into `folder`; sets `problem` to what went wrong, or to nothing.
function(fetch_ort_headers folder problem)
    message(STATUS "Fetching the headers of ONNX Runtime")
    set(attempt "${folder}.partial")
    file(REMOVE_RECURSE "${attempt}")
    set(script "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/fetch_debian.sh")
    # trixie is the first release that has the package; the library is good for later ones too.
    execute_process(COMMAND sh "${script}" "${attempt}" trixie libonnxruntime-dev
                    RESULT_VARIABLE failed OUTPUT_VARIABLE output ERROR_VARIABLE output)
    if(failed)
        string(STRIP "${output}" output)
        string(REGEX REPLACE ".*\n" "" told "${output}")
        foreach(name c_api cxx_api cxx_inline float16)
            set(url ${ORT_RELEASE_URL}/onnxruntime_${name}.h)
            file(DOWNLOAD ${url} "${attempt}/onnxruntime_${name}.h" STATUS status TLS_VERIFY ON
                 INACTIVITY_TIMEOUT 20)
            list(GET status 0 code)
            if(code)
                list(GET status 1 text)
                file(REMOVE_RECURSE "${attempt}")
                set(${problem} "and cannot be fetched (Debian's package: ${told}; ${url}: ${text})"
                    PARENT_SCOPE)
                return()
            endif()
        endforeach()
        file(RENAME "${attempt}" "${folder}")
    else()
        file(RENAME "${attempt}/usr/include/onnxruntime" "${folder}")
        file(REMOVE_RECURSE "${attempt}")
    endif()
    set(${problem} "" PARENT_SCOPE)
endfunction()
