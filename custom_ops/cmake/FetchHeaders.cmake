# find_headers(<result> <note> VARIABLE <name> HEADER <file> [SUFFIXES <path>...] FOLDER <name>
#              TITLE <whose> PACKAGE <name> INSIDE <path> [INTO <path>] URLS <url>...)
#
# The folder that holds HEADER, or an empty text and the reason why there is none. In this order:
#
#   VARIABLE              CMake or environment variable: this folder and no other
#   installed headers     or a copy on CMAKE_PREFIX_PATH
#   fetch_headers         into FOLDER of the build folder; not with REFORMER_FETCH=OFF
#
# fetch_headers(<folder> <problem> TITLE <whose> PACKAGE <name> INSIDE <path> [INTO <path>]
#               URLS <url>...)
#
# Puts headers into `folder`: those that lie at INSIDE in Debian's package, where apt-get is at hand,
# else the files at URLS, in INTO. Sets `problem` to what went wrong, or to nothing.

option(REFORMER_FETCH "Fetch headers where none are installed" ON)

function(fetch_headers folder problem)
    cmake_parse_arguments(PARSE_ARGV 2 arg "" "TITLE;PACKAGE;INSIDE;INTO" "URLS")
    message(STATUS "Fetching the headers of ${arg_TITLE}")
    set(attempt "${folder}.partial")
    file(REMOVE_RECURSE "${attempt}")
    # The first release that has ONNX Runtime; what its headers make runs with later ones too.
    execute_process(COMMAND sh "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/fetch_debian.sh" "${attempt}"
                            trixie ${arg_PACKAGE}
                    RESULT_VARIABLE failed OUTPUT_VARIABLE output ERROR_VARIABLE output)
    if(failed)
        string(STRIP "${output}" output)
        string(REGEX REPLACE ".*\n" "" told "${output}")
        foreach(url ${arg_URLS})
            get_filename_component(name ${url} NAME)
            file(DOWNLOAD ${url} "${attempt}/${arg_INTO}/${name}" STATUS status TLS_VERIFY ON
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
        file(RENAME "${attempt}/${arg_INSIDE}" "${folder}")
        file(REMOVE_RECURSE "${attempt}")
    endif()
    set(${problem} "" PARENT_SCOPE)
endfunction()

function(find_headers result note)
    cmake_parse_arguments(PARSE_ARGV 2 arg "" "VARIABLE;HEADER;FOLDER" "SUFFIXES")
    set(given "${${arg_VARIABLE}}")
    if(NOT given)
        set(given "$ENV{${arg_VARIABLE}}")
    endif()
    set(reason "")
    if(given)
        find_path(found ${arg_HEADER} PATHS "${given}" NO_DEFAULT_PATH NO_CACHE
                  PATH_SUFFIXES ${arg_SUFFIXES})
        set(reason "${arg_VARIABLE}=${given} has no ${arg_HEADER}")
    else()
        find_path(found ${arg_HEADER} NO_CACHE PATH_SUFFIXES ${arg_SUFFIXES})
        set(reason "${arg_HEADER} is not installed")
        if(NOT found AND REFORMER_FETCH)
            set(folder "${CMAKE_CURRENT_BINARY_DIR}/${arg_FOLDER}")
            if(NOT EXISTS "${folder}/${arg_HEADER}")
                fetch_headers("${folder}" problem ${arg_UNPARSED_ARGUMENTS})
            endif()
            if(EXISTS "${folder}/${arg_HEADER}")
                set(found "${folder}")
            else()
                string(APPEND reason " ${problem}")
            endif()
        endif()
    endif()
    if(found)
        set(${result} "${found}" PARENT_SCOPE)
    else()
        set(${result} "" PARENT_SCOPE)
        set(${note} "${reason}" PARENT_SCOPE)
    endif()
endfunction()
