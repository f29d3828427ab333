/* SPDX-License-Identifier: MIT
 *
 * For context_check.c: calls into src/context with a pattern in every register that the ABI makes the
 * callee keep, and notes what they hold afterwards. An array has, in 64-bit words:
 * s0-s11, fs0-fs11, fcsr's rounding mode. See context_abi_x86_64.S for the four functions.
 */
        .text

#define FRAME 224

        .macro  registers ldst, fldst, base
        .irp    r, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
        \ldst   s\r, \r * 8(\base)
        \fldst  fs\r, 96 + \r * 8(\base)
        .endr
        .endm

        .macro  load_control from
        ld      t0, 192(\from)
        fsrm    t0
        .endm

        .macro  around name, target
        .globl  \name
        .type   \name, @function
\name:
        .cfi_startproc
        addi    sp, sp, -FRAME
        .cfi_def_cfa_offset FRAME
        registers sd, fsd, sp
        frrm    t0
        sd      t0, 192(sp)
        sd      a4, 200(sp)
        sd      ra, 208(sp)
        .cfi_rel_offset ra, 208
        .irp    r, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
        .cfi_rel_offset s\r, \r * 8
        .cfi_rel_offset fs\r, 96 + \r * 8
        .endr
        load_control a3
        registers ld, fld, a3
        call    \target
        ld      a4, 200(sp)
        registers sd, fsd, a4
        frrm    t0
        sd      t0, 192(a4)
        load_control sp
        registers ld, fld, sp
        ld      ra, 208(sp)
        .cfi_restore ra
        .irp    r, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
        .cfi_restore s\r
        .cfi_restore fs\r
        .endr
        addi    sp, sp, FRAME
        .cfi_def_cfa_offset 0
        ret
        .cfi_endproc
        .size   \name, .-\name
        .endm

        around  context_abi_switch, rt_context_switch
        around  context_abi_call, rt_context_call

        .globl  context_abi_return
        .type   context_abi_return, @function
context_abi_return:
        .cfi_startproc
        load_control a2
        registers ld, fld, a2
        call    rt_context_return
        ebreak
        .cfi_endproc
        .size   context_abi_return, .-context_abi_return

        .globl  context_abi_control
        .type   context_abi_control, @function
context_abi_control:
        .cfi_startproc
        load_control a0
        ret
        .cfi_endproc
        .size   context_abi_control, .-context_abi_control

        .section .note.GNU-stack, "", @progbits
