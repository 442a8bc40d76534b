# find_ort_headers(<result> <note>): the folder of ONNX Runtime's C++ headers, or the reason why
# there is none. No Python package contains them. It tries, in this order:
#
#   ORT_INCLUDE_DIR                  CMake or environment variable: if it is set, only this folder
#   an installed libonnxruntime-dev  or an unpacked release on CMAKE_PREFIX_PATH
#   the Debian package               unpacked into the build folder, if apt-get can fetch it
#   the release                      its headers, from the project's public repository
#
# REFORMER_FETCH=OFF skips the last two, which need a network.

include(${CMAKE_CURRENT_LIST_DIR}/FetchHeaders.cmake)

set(ORT_RELEASE 1.21.0)  # as in Debian 13; a library built with it also loads into later ones
set(ORT_RELEASE_URL
    https://raw.githubusercontent.com/microsoft/onnxruntime/v${ORT_RELEASE}/include/onnxruntime/core/session)
set(ORT_HEADERS onnxruntime_c_api.h onnxruntime_cxx_api.h onnxruntime_cxx_inline.h
    onnxruntime_float16.h)

function(find_ort_headers result note)
    list(TRANSFORM ORT_HEADERS PREPEND ${ORT_RELEASE_URL}/ OUTPUT_VARIABLE urls)
    find_headers(found reason VARIABLE ORT_INCLUDE_DIR HEADER onnxruntime_cxx_api.h
                 SUFFIXES onnxruntime onnxruntime/core/session FOLDER onnxruntime-headers
                 TITLE "ONNX Runtime" PACKAGE libonnxruntime-dev INSIDE usr/include/onnxruntime
                 URLS ${urls})
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
