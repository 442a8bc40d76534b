# find_json_headers(<result> <note>): the include folder of nlohmann/json (3.9 or later), which is
# headers alone, or the reason why there is none. In this order:
#
#   JSON_INCLUDE_DIR               CMake or environment variable: this one and no other
#   an installed nlohmann-json3-dev  or a copy on CMAKE_PREFIX_PATH
#   the Debian package             unpacked into the build folder, where apt-get is at hand
#   the release                    its headers, from the project's public repository
#
# REFORMER_FETCH=OFF leaves out the two that need a network.

set(JSON_RELEASE 3.11.3)
set(JSON_RELEASE_URL
    https://raw.githubusercontent.com/nlohmann/json/v${JSON_RELEASE}/single_include/nlohmann)

function(find_json_headers result note)
    set(header nlohmann/json.hpp)
    set(reason "")
    if(NOT JSON_INCLUDE_DIR)
        set(JSON_INCLUDE_DIR "$ENV{JSON_INCLUDE_DIR}")
    endif()
    if(JSON_INCLUDE_DIR)
        find_path(found ${header} PATHS "${JSON_INCLUDE_DIR}" NO_DEFAULT_PATH NO_CACHE)
        set(reason "JSON_INCLUDE_DIR=${JSON_INCLUDE_DIR} has no ${header}")
    else()
        find_path(found ${header} NO_CACHE)
        set(reason "${header} is not installed")
        if(NOT found AND REFORMER_FETCH)
            set(folder "${CMAKE_CURRENT_BINARY_DIR}/json-headers")
            if(NOT EXISTS "${folder}/${header}")
                fetch_json_headers("${folder}" problem)
            endif()
            if(EXISTS "${folder}/${header}")
                set(found "${folder}")
            else()
                string(APPEND reason " ${problem}")
            endif()
        endif()
    endif()
    if(found)
        message(STATUS "JSON headers: ${found}")
        set(${result} "${found}" PARENT_SCOPE)
    else()
        set(${result} "" PARENT_SCOPE)
        set(${note} "${reason}: install nlohmann-json3-dev, or set JSON_INCLUDE_DIR to the folder that holds nlohmann/json.hpp"
            PARENT_SCOPE)
    endif()
endfunction()

# Puts the headers into `folder`; sets `problem` to what went wrong, or to nothing.
function(fetch_json_headers folder problem)
    message(STATUS "Fetching the headers of nlohmann/json")
    set(attempt "${folder}.partial")
    file(REMOVE_RECURSE "${attempt}")
    execute_process(COMMAND sh "${custom_ops}/cmake/fetch_debian.sh" "${attempt}" trixie
                            nlohmann-json3-dev
                    RESULT_VARIABLE failed OUTPUT_VARIABLE output ERROR_VARIABLE output)
    if(failed)
        string(STRIP "${output}" output)
        string(REGEX REPLACE ".*\n" "" told "${output}")
        foreach(name json json_fwd)
            set(url ${JSON_RELEASE_URL}/${name}.hpp)
            file(DOWNLOAD ${url} "${attempt}/nlohmann/${name}.hpp" STATUS status TLS_VERIFY ON
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
        file(RENAME "${attempt}/usr/include" "${folder}")
        file(REMOVE_RECURSE "${attempt}")
    endif()
    set(${problem} "" PARENT_SCOPE)
endfunction()
