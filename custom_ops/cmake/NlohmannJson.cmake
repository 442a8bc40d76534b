# find_json_headers(<result> <note>): the include folder of nlohmann/json (3.9 or later), a library
# of headers only, or the reason why there is none. It tries, in this order:
#
#   JSON_INCLUDE_DIR                 CMake or environment variable: if it is set, only this folder
#   an installed nlohmann-json3-dev  or a copy on CMAKE_PREFIX_PATH
#   the Debian package               unpacked into the build folder, if apt-get can fetch it
#   the release                      its headers, from the project's public repository
#
# REFORMER_FETCH=OFF skips the last two, which need a network.

include(${CMAKE_CURRENT_LIST_DIR}/FetchHeaders.cmake)

set(JSON_RELEASE 3.11.3)
set(JSON_RELEASE_URL
    https://raw.githubusercontent.com/nlohmann/json/v${JSON_RELEASE}/single_include/nlohmann)

function(find_json_headers result note)
    find_headers(found reason VARIABLE JSON_INCLUDE_DIR HEADER nlohmann/json.hpp
                 FOLDER json-headers TITLE nlohmann/json PACKAGE nlohmann-json3-dev
                 INSIDE usr/include INTO nlohmann
                 URLS ${JSON_RELEASE_URL}/json.hpp ${JSON_RELEASE_URL}/json_fwd.hpp)
    if(found)
        message(STATUS "JSON headers: ${found}")
    else()
        string(APPEND reason ": install nlohmann-json3-dev, or set JSON_INCLUDE_DIR to the folder "
               "that holds nlohmann/json.hpp")
    endif()
    set(${result} "${found}" PARENT_SCOPE)
    set(${note} "${reason}" PARENT_SCOPE)
endfunction()
