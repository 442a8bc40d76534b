# find_headers(<result> <note> VARIABLE <name> HEADER <file> [SUFFIXES <path>...] FOLDER <name>
#              TITLE <project> PACKAGE <name> INSIDE <path> [INTO <path>] URLS <url>...)
#
# Sets <result> to the folder that contains HEADER; or <result> to an empty string and <note> to the
# reason why there is none. It tries, in this order:
#
#   VARIABLE              CMake or environment variable: if it is set, only this folder
#   installed headers     or a copy on CMAKE_PREFIX_PATH
#   fetch_headers         into FOLDER of the build folder; not with REFORMER_FETCH=OFF
#
# fetch_headers(<folder> <problem> TITLE <project> PACKAGE <name> INSIDE <path> [INTO <path>]
#               URLS <url>...)
#
# Puts headers into `folder`: those at INSIDE in Debian's package if apt-get can fetch it, else the
# files at URLS, in INTO. Sets `problem` to the error, or to an empty string.

option(REFORMER_FETCH "Fetch headers if none are installed" ON)

function(fetch_headers folder problem)
    cmake_parse_arguments(PARSE_ARGV 2 arg "" "TITLE;PACKAGE;INSIDE;INTO" "URLS")
    message(STATUS "Fetching the headers of ${arg_TITLE}")
    set(attempt "${folder}.partial")
    file(REMOVE_RECURSE "${attempt}")
    # The first Debian release with ONNX Runtime; a library built with its headers also runs with
    # later releases of ONNX Runtime.
    execute_process(COMMAND sh "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/fetch_debian.sh" "${attempt}"
                            trixie ${arg_PACKAGE}
                    RESULT_VARIABLE failed OUTPUT_VARIABLE output ERROR_VARIABLE output)
    if(failed)
        string(STRIP "${output}" output)
        string(REGEX REPLACE ".*\n" "" last_line "${output}")
        foreach(url ${arg_URLS})
            get_filename_component(name ${url} NAME)
            file(DOWNLOAD ${url} "${attempt}/${arg_INTO}/${name}" STATUS status TLS_VERIFY ON
                 INACTIVITY_TIMEOUT 20)
            list(GET status 0 code)
            if(code)
                list(GET status 1 text)
                file(REMOVE_RECURSE "${attempt}")
                set(${problem} "and cannot be fetched (Debian's package: ${last_line}; ${url}: ${text})"
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
