# find_torch_headers(<result> <note>): the include folder of the torch to compile with, or the reason
# why there is none. Nothing is linked, so any torch from 2.10 on works, CPU or CUDA.
#
#   TORCH_INCLUDE_DIR   CMake or environment variable: if it is set, only this folder

function(find_torch_headers result note)
    set(version_header torch/headeronly/version.h)
    if(NOT TORCH_INCLUDE_DIR)
        set(TORCH_INCLUDE_DIR "$ENV{TORCH_INCLUDE_DIR}")
    endif()
    if(TORCH_INCLUDE_DIR)
        set(found "${TORCH_INCLUDE_DIR}")
        set(advice "set TORCH_INCLUDE_DIR to the include folder of torch 2.10 or later")
    else()
        # scikit-build-core names the Python that it builds for.
        find_package(Python3 COMPONENTS Interpreter)
        # An isolated build cannot import the environment's packages, but it can find their folders.
        set(code "
import importlib.util, pathlib, sysconfig
spec = importlib.util.find_spec('torch')
roots = [pathlib.Path(p) for p in (spec.submodule_search_locations if spec else [])]
roots += [pathlib.Path(sysconfig.get_path(p)) / 'torch' for p in ('purelib', 'platlib')]
print(next((r / 'include' for r in roots if (r / 'include').is_dir()), ''), end='')
")
        set(found "")
        if(Python3_FOUND)
            execute_process(COMMAND "${Python3_EXECUTABLE}" -c "${code}" OUTPUT_VARIABLE found)
        endif()
        set(advice "install torch 2.10 or later, or set TORCH_INCLUDE_DIR")
    endif()

    if(NOT found)
        set(reason "no torch was found: ${advice}")
    elseif(NOT EXISTS "${found}/${version_header}")
        set(reason "${found} has no ${version_header}: ${advice}")
    else()
        file(STRINGS "${found}/${version_header}" lines REGEX "define TORCH_VERSION_(MAJOR|MINOR) ")
        string(REGEX REPLACE "[^0-9]+([0-9]+)[^0-9]+([0-9]+).*" "\\1.\\2" version "${lines}")
        if(version VERSION_LESS 2.10)
            set(reason "${found} is of torch ${version}: ${advice}")
        else()
            message(STATUS "torch headers: ${found} (${version})")
            set(${result} "${found}" PARENT_SCOPE)
        endif()
    endif()
    set(${note} "${reason}" PARENT_SCOPE)
endfunction()
