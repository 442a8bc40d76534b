# find_json_headers(<result> <note>): the include folder of nlohmann/json (3.9 or later), which is
# headers alone, or the reason why there is none. In this order:
#
#   JSON_INCLUDE_DIR               CMake or environment variable: this one and no other
#   an installed nlohmann-json3-dev  or a copy on CMAKE_PREFIX_PATH
#   the Debian package             unpacked into the build folder, where apt-get is at hand
#   the release                    its headers, from the project's public repository
#
# REFORMER_FETCH=OFF leaves out the two that need a network.

include(${CMAKE_CURRENT_LIST_DIR}/FetchHeaders.cmake)

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
                set(url ${JSON_RELEASE_URL})
                fetch_headers("${folder}" problem TITLE nlohmann/json PACKAGE nlohmann-json3-dev
                              INSIDE usr/include INTO nlohmann
                              URLS ${url}/json.hpp ${url}/json_fwd.hpp)
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
