# find_cxxopts_headers(<result> <note>): finds the include folder of cxxopts (3.1 or later), a
# single header; if there is none, `note` is the reason. The places, in this order:
#
#   CXXOPTS_INCLUDE_DIR         CMake or environment variable: if set, no other place is searched
#   an installed libcxxopts-dev   or a copy on CMAKE_PREFIX_PATH
#   the Debian package          unpacked into the build folder, if apt-get is available
#   the release                 its header, from the project's public repository
#
# REFORMER_FETCH=OFF skips the last two, which need a network.

include(${CMAKE_CURRENT_LIST_DIR}/../../../../custom_ops/cmake/FetchHeaders.cmake)

set(CXXOPTS_RELEASE 3.2.1)
set(CXXOPTS_RELEASE_URL
    https://raw.githubusercontent.com/jarro2783/cxxopts/v${CXXOPTS_RELEASE}/include/cxxopts.hpp)

function(find_cxxopts_headers result note)
    find_headers(found reason VARIABLE CXXOPTS_INCLUDE_DIR HEADER cxxopts.hpp FOLDER cxxopts-headers
                 TITLE cxxopts PACKAGE libcxxopts-dev INSIDE usr/include URLS ${CXXOPTS_RELEASE_URL})
    if(found)
        file(STRINGS "${found}/cxxopts.hpp" lines REGEX "define CXXOPTS__VERSION_(MAJOR|MINOR) ")
        string(REGEX REPLACE "[^0-9]+([0-9]+)[^0-9]+([0-9]+).*" "\\1.\\2" version "${lines}")
        if(version VERSION_LESS 3.1)
            set(reason "${found} is of cxxopts ${version}, older than 3.1")
            set(found "")
        else()
            message(STATUS "cxxopts header: ${found} (${version})")
        endif()
    endif()
    if(NOT found)
        string(APPEND reason ": install libcxxopts-dev (3.1 or later), or set CXXOPTS_INCLUDE_DIR to "
               "the folder that holds cxxopts.hpp")
    endif()
    set(${result} "${found}" PARENT_SCOPE)
    set(${note} "${reason}" PARENT_SCOPE)
endfunction()
