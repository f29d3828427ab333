# SPDX-License-Identifier: MIT
#
# Toolchain file: Debian's cross compiler for riscv64; programs are static and run under qemu-user.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR riscv64)
set(CMAKE_C_COMPILER riscv64-linux-gnu-gcc)
set(CMAKE_EXE_LINKER_FLAGS_INIT -static)
find_program(ROUTINES_QEMU NAMES qemu-riscv64 qemu-riscv64-static)
if(ROUTINES_QEMU)
    set(CMAKE_CROSSCOMPILING_EMULATOR "${ROUTINES_QEMU}")
endif()
# nothing of the building machine's but programs
set(CMAKE_FIND_ROOT_PATH /usr/riscv64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
