/* SPDX-License-Identifier: MIT
 *
 * For context_check.c: calls into src/context with a pattern in every register that the ABI makes the
 * callee keep, and notes what they hold afterwards. An array has, in 64-bit
 * words: rbx rbp r12 r13 r14 r15, MXCSR's control bits, the x87 control word.
 *
 *   void *context_abi_switch(void **save, void *to, void *value, const uint64_t *load, uint64_t *seen);
 *   void *context_abi_call(void **mark, void *(*fn)(void *), void *arg, const uint64_t *load,
 *                          uint64_t *seen);
 *   void context_abi_return(void *mark, void *value, const uint64_t *load);
 *   void context_abi_control(const uint64_t *load);       the last two words only
 */
        .text

#define FRAME 72

        .macro  load_control from
        fnclex                          /* or flags already raised would trap when unmasked */
        fldcw   56(\from)
        ldmxcsr 48(\from)
        .endm

        .macro  load_patterns from
        load_control \from
        movq    (\from), %rbx
        movq    8(\from), %rbp
        movq    16(\from), %r12
        movq    24(\from), %r13
        movq    32(\from), %r14
        movq    40(\from), %r15
        .endm

        .macro  around name, target
        .globl  \name
        .type   \name, @function
\name:
        .cfi_startproc
        subq    $FRAME, %rsp
        .cfi_adjust_cfa_offset FRAME
        movq    %rbp, 56(%rsp)
        .cfi_rel_offset %rbp, 56
        movq    %rbx, 48(%rsp)
        .cfi_rel_offset %rbx, 48
        movq    %r12, 40(%rsp)
        .cfi_rel_offset %r12, 40
        movq    %r13, 32(%rsp)
        .cfi_rel_offset %r13, 32
        movq    %r14, 24(%rsp)
        .cfi_rel_offset %r14, 24
        movq    %r15, 16(%rsp)
        .cfi_rel_offset %r15, 16
        movq    %r8, 8(%rsp)
        stmxcsr (%rsp)
        fnstcw  4(%rsp)
        load_patterns %rcx
        call    \target
        movq    8(%rsp), %rcx
        movq    %rbx, (%rcx)
        movq    %rbp, 8(%rcx)
        movq    %r12, 16(%rcx)
        movq    %r13, 24(%rcx)
        movq    %r14, 32(%rcx)
        movq    %r15, 40(%rcx)
        stmxcsr 64(%rsp)
        movl    64(%rsp), %edx
        andl    $0xffc0, %edx
        movq    %rdx, 48(%rcx)
        fnstcw  64(%rsp)
        movzwl  64(%rsp), %edx
        movq    %rdx, 56(%rcx)
        ldmxcsr (%rsp)
        fldcw   4(%rsp)
        movq    56(%rsp), %rbp
        .cfi_same_value %rbp
        movq    48(%rsp), %rbx
        .cfi_same_value %rbx
        movq    40(%rsp), %r12
        .cfi_same_value %r12
        movq    32(%rsp), %r13
        .cfi_same_value %r13
        movq    24(%rsp), %r14
        .cfi_same_value %r14
        movq    16(%rsp), %r15
        .cfi_same_value %r15
        addq    $FRAME, %rsp
        .cfi_adjust_cfa_offset -FRAME
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
        subq    $8, %rsp
        .cfi_adjust_cfa_offset 8
        load_patterns %rdx
        call    rt_context_return
        ud2
        .cfi_endproc
        .size   context_abi_return, .-context_abi_return

        .globl  context_abi_control
        .type   context_abi_control, @function
context_abi_control:
        .cfi_startproc
        load_control %rdi
        ret
        .cfi_endproc
        .size   context_abi_control, .-context_abi_control

        .section .note.GNU-stack, "", @progbits
