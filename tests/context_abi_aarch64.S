/* SPDX-License-Identifier: MIT
 *
 * For context_check.c: calls into src/context with a pattern in every register that the ABI makes the
 * callee keep, and notes what they hold afterwards. An array has, in 64-bit
 * words: x19-x29, d8-d15, FPCR. See context_abi_x86_64.S for the four functions.
 */
        .text

#define FRAME 192

        .macro  registers ldst, ldstp, base, at
        \ldstp  x19, x20, [\base, #\at]
        \ldstp  x21, x22, [\base, #\at + 16]
        \ldstp  x23, x24, [\base, #\at + 32]
        \ldstp  x25, x26, [\base, #\at + 48]
        \ldstp  x27, x28, [\base, #\at + 64]
        \ldst   x29, [\base, #\at + 80]
        \ldstp  d8, d9, [\base, #\at + 88]
        \ldstp  d10, d11, [\base, #\at + 104]
        \ldstp  d12, d13, [\base, #\at + 120]
        \ldstp  d14, d15, [\base, #\at + 136]
        .endm

        .macro  load_control from
        ldr     x9, [\from, #152]
        msr     fpcr, x9
        .endm

        .macro  around name, target
        .globl  \name
        .type   \name, %function
\name:
        .cfi_startproc
        sub     sp, sp, #FRAME
        .cfi_def_cfa_offset FRAME
        registers str, stp, sp, 0
        mrs     x9, fpcr
        str     x9, [sp, #152]
        stp     x4, x30, [sp, #168]
        .cfi_rel_offset x30, 176
        .cfi_rel_offset x29, 80
        .irp    r, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28
        .cfi_rel_offset x\r, (\r - 19) * 8
        .endr
        .irp    r, 8, 9, 10, 11, 12, 13, 14, 15
        .cfi_rel_offset d\r, 88 + (\r - 8) * 8
        .endr
        load_control x3
        registers ldr, ldp, x3, 0
        bl      \target
        ldr     x4, [sp, #168]
        registers str, stp, x4, 0
        mrs     x9, fpcr
        str     x9, [x4, #152]
        load_control sp
        registers ldr, ldp, sp, 0
        ldr     x30, [sp, #176]
        .irp    r, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30
        .cfi_restore x\r
        .endr
        .irp    r, 8, 9, 10, 11, 12, 13, 14, 15
        .cfi_restore d\r
        .endr
        add     sp, sp, #FRAME
        .cfi_def_cfa_offset 0
        ret
        .cfi_endproc
        .size   \name, .-\name
        .endm

        around  context_abi_switch, rt_context_switch
        around  context_abi_call, rt_context_call

        .globl  context_abi_return
        .type   context_abi_return, %function
context_abi_return:
        .cfi_startproc
        load_control x2
        registers ldr, ldp, x2, 0
        bl      rt_context_return
        brk     #1
        .cfi_endproc
        .size   context_abi_return, .-context_abi_return

        .globl  context_abi_control
        .type   context_abi_control, %function
context_abi_control:
        .cfi_startproc
        load_control x0
        ret
        .cfi_endproc
        .size   context_abi_control, .-context_abi_control

        .section .note.GNU-stack, "", %progbits
