# SPDX-License-Identifier: MIT
#
# Toolchain file: musl by its wrapper of gcc, beside glibc on one machine (Debian: musl-tools); programs are
# static. On a system whose C library is musl this is not needed.
#
# The wrapper hides /usr/include, and with it the kernel's headers, which are the same for both: a
# directory of links shows these and nothing else of glibc's.
find_program(ROUTINES_MUSL_GCC NAMES musl-gcc)
if(NOT ROUTINES_MUSL_GCC)
    message(FATAL_ERROR "No musl-gcc was found (Debian: musl-tools)")
endif()
set(CMAKE_C_COMPILER "${ROUTINES_MUSL_GCC}")
set(kernel_headers "${CMAKE_BINARY_DIR}/kernel-headers")
file(MAKE_DIRECTORY "${kernel_headers}")
file(GLOB asm /usr/include/${CMAKE_HOST_SYSTEM_PROCESSOR}-linux-gnu/asm /usr/include/asm)
list(GET asm 0 asm)
foreach(directory IN ITEMS /usr/include/linux /usr/include/asm-generic "${asm}")
    get_filename_component(name "${directory}" NAME)
    file(CREATE_LINK "${directory}" "${kernel_headers}/${name}" SYMBOLIC)
endforeach()
set(CMAKE_C_FLAGS_INIT "-idirafter ${kernel_headers}")
set(CMAKE_EXE_LINKER_FLAGS_INIT -static)
set(CMAKE_FIND_ROOT_PATH /usr/lib/${CMAKE_HOST_SYSTEM_PROCESSOR}-linux-musl)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
