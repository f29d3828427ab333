# SPDX-License-Identifier: MIT
#
# Toolchain file: clang, under whatever name it goes.
#   cmake -B build -DCMAKE_TOOLCHAIN_FILE=cmake/clang.cmake
set(names clang)
foreach(version RANGE 30 11 -1)
    list(APPEND names clang-${version})
endforeach()
find_program(ROUTINES_CLANG NAMES ${names} NAMES_PER_DIR)
if(NOT ROUTINES_CLANG)
    message(FATAL_ERROR "No clang was found (looked for clang and clang-11 to clang-30)")
endif()
set(CMAKE_C_COMPILER "${ROUTINES_CLANG}")
string(REGEX REPLACE "clang([-0-9]*)$" "clang++\\1" ROUTINES_CLANGXX "${ROUTINES_CLANG}")
if(EXISTS "${ROUTINES_CLANGXX}")
    set(CMAKE_CXX_COMPILER "${ROUTINES_CLANGXX}")
endif()
