# write_op_versions(<file>): a header that says which version of each operator the sources implement.
# The versions are written in reformer_ops/*/spec.py only. This needs no Python.
#
#   cmake -D HEADER=<file> [-D OPERATORS=<reformer_ops>] -P OpVersions.cmake   without a build

function(write_op_versions header)
    if(NOT OPERATORS)
        set(OPERATORS ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/../reformer_ops)
    endif()
    file(GLOB specs ${OPERATORS}/*/spec.py)
    list(FILTER specs EXCLUDE REGEX "/core/spec.py$")  # the base of all specs
    list(SORT specs)
    set(entries "")
    foreach(spec IN LISTS specs)
        file(READ ${spec} text)
        if(NOT text MATCHES "\n    name=\"([A-Za-z0-9]+)\",\n")
            message(FATAL_ERROR "${spec} has no line 'name=\"...\",'")
        endif()
        set(name ${CMAKE_MATCH_1})
        if(NOT text MATCHES "\n    version=([0-9]+),\n")
            message(FATAL_ERROR "${spec} has no line 'version=...,'")
        endif()
        string(APPEND entries "    {\"${name}\", ${CMAKE_MATCH_1}},\n")
        if(NOT CMAKE_SCRIPT_MODE_FILE)
            set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${spec})
        endif()
    endforeach()
    file(CONFIGURE OUTPUT ${header} @ONLY CONTENT "// Written by OpVersions.cmake from reformer_ops/*/spec.py.
#pragma once

#include <cstdint>
#include <string_view>

namespace reformer {

struct OpVersion {
  std::string_view name;
  std::int64_t version;
};

constexpr OpVersion kOpVersions[] = {
@entries@};

// 0 for a name that no operator has.
constexpr std::int64_t op_version(std::string_view name) {
  for (const OpVersion& each : kOpVersions)
    if (each.name == name) return each.version;
  return 0;
}

}  // namespace reformer
")
endfunction()

if(CMAKE_SCRIPT_MODE_FILE STREQUAL CMAKE_CURRENT_LIST_FILE)
    write_op_versions(${HEADER})
endif()
