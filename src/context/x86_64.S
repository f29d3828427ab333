/* SPDX-License-Identifier: MIT
 *
 * Floor 2. The context switch for x86-64, System V ABI. See context.h.
 *
 * A suspended stack, from its saved pointer upwards:
 *      0  MXCSR (4 bytes), x87 control word (2), unused (2)
 *      8  r15   16 r14   24 r13   32 r12   40 rbx   48 rbp   56 return address
 * rt_context_call leaves the same picture, but for MXCSR, whose reading costs as much as the
 * rest of the call: it watches the x87 control word alone. All of <fenv.h> (rounding,
 * traps) changes both words alike, so a change is found there and MXCSR is mended from
 * it; what is in MXCSR only (flush to zero, denormals are zero, set by intrinsics) a function
 * called so hands on to its caller, as any function call does.
 *
 * Measured (Zen 4): a balanced call and ret switches in 2.3 ns, because all
 * switches come through few call sites and the return predictor guesses right;
 * `pop; jmp` unbalances it and takes 11. stmxcsr adds 4.5, the x87 word nothing.
 */
        .text

#define FRAME 56

/* void *rt_context_switch(void **save, void *to, void *value) */
        .globl  rt_context_switch
        .hidden rt_context_switch
        .type   rt_context_switch, @function
        .p2align 6
rt_context_switch:
        .cfi_startproc
        leaq    -FRAME(%rsp), %rsp
        .cfi_adjust_cfa_offset FRAME
        stmxcsr (%rsp)
        fnstcw  4(%rsp)
        movq    %rbp, 48(%rsp)
        .cfi_rel_offset %rbp, 48
        movq    %rbx, 40(%rsp)
        .cfi_rel_offset %rbx, 40
        movq    %r12, 32(%rsp)
        .cfi_rel_offset %r12, 32
        movq    %r13, 24(%rsp)
        .cfi_rel_offset %r13, 24
        movq    %r14, 16(%rsp)
        .cfi_rel_offset %r14, 16
        movq    %r15, 8(%rsp)
        .cfi_rel_offset %r15, 8
        movl    (%rsp), %ecx
        movzwl  4(%rsp), %r8d
        movq    %rsp, (%rdi)
        /* The layout on both sides is the same, so the CFI above holds across this: */
        movq    %rsi, %rsp
        xorl    (%rsp), %ecx
        testl   $0xffc0, %ecx           /* the control bits; the flags below belong to the caller */
        jne     .Lswitch_mxcsr
.Lswitch_x87:
        cmpw    4(%rsp), %r8w
        jne     .Lswitch_fcw
.Lswitch_load:
        movq    8(%rsp), %r15
        .cfi_same_value %r15
        movq    16(%rsp), %r14
        .cfi_same_value %r14
        movq    24(%rsp), %r13
        .cfi_same_value %r13
        movq    32(%rsp), %r12
        .cfi_same_value %r12
        movq    40(%rsp), %rbx
        .cfi_same_value %rbx
        movq    48(%rsp), %rbp
        .cfi_same_value %rbp
        leaq    FRAME(%rsp), %rsp
        .cfi_adjust_cfa_offset -FRAME
        movq    %rdx, %rax
        ret
        /* rare: the two sides have different control words */
        .cfi_adjust_cfa_offset FRAME
        .cfi_rel_offset %rbp, 48
        .cfi_rel_offset %rbx, 40
        .cfi_rel_offset %r12, 32
        .cfi_rel_offset %r13, 24
        .cfi_rel_offset %r14, 16
        .cfi_rel_offset %r15, 8
.Lswitch_mxcsr:
        ldmxcsr (%rsp)
        jmp     .Lswitch_x87
.Lswitch_fcw:
        fnclex                          /* flags raised on the other stack must not trap on this one */
        fldcw   4(%rsp)
        jmp     .Lswitch_load
        .cfi_endproc
        .size   rt_context_switch, .-rt_context_switch

/* void *rt_context_make(void *top, rt_context_entry *entry) */
        .globl  rt_context_make
        .hidden rt_context_make
        .type   rt_context_make, @function
        .p2align 4
rt_context_make:
        .cfi_startproc
        /* top-8: zero, the return address of the first frame; top-16: where the switch returns to. */
        leaq    -(FRAME + 16)(%rdi), %rax
        movq    $0, 64(%rax)
        leaq    .Lentry(%rip), %rcx
        movq    %rcx, 56(%rax)
        movq    $0, 48(%rax)            /* rbp: the chain of frame pointers ends here */
        movq    %rsi, 40(%rax)          /* rbx: entry */
        movq    $0, 32(%rax)
        movq    $0, 24(%rax)
        movq    $0, 16(%rax)
        movq    $0, 8(%rax)
        movq    $0, (%rax)
        stmxcsr (%rax)
        fnstcw  4(%rax)
        ret
        .cfi_endproc
        .size   rt_context_make, .-rt_context_make

/* The first frame of a stack: rsp is top-8, 16-aligned before the call below. */
        .type   rt_context_first, @function
        .p2align 4
rt_context_first:
        .cfi_startproc
        .cfi_undefined %rip             /* nothing called this */
        nop                             /* an unwinder looks up the return address minus one */
.Lentry:
        .cfi_def_cfa_offset 8
        leaq    8(%rsp), %rsp
        .cfi_def_cfa_offset 0
        movq    %rax, %rdi
        callq   *%rbx
        ud2
        .cfi_endproc
        .size   rt_context_first, .-rt_context_first

/* void *rt_context_call(void **mark, void *(*fn)(void *), void *arg) */
        .globl  rt_context_call
        .hidden rt_context_call
        .type   rt_context_call, @function
        .p2align 6
rt_context_call:
        .cfi_startproc
        leaq    -FRAME(%rsp), %rsp
        .cfi_adjust_cfa_offset FRAME
        fnstcw  4(%rsp)
        movq    %rbp, 48(%rsp)
        .cfi_rel_offset %rbp, 48
        movq    %rbx, 40(%rsp)
        .cfi_rel_offset %rbx, 40
        movq    %r12, 32(%rsp)
        .cfi_rel_offset %r12, 32
        movq    %r13, 24(%rsp)
        .cfi_rel_offset %r13, 24
        movq    %r14, 16(%rsp)
        .cfi_rel_offset %r14, 16
        movq    %r15, 8(%rsp)
        .cfi_rel_offset %r15, 8
        movq    %rsp, (%rdi)
        leaq    48(%rsp), %rbp          /* a frame of its own in the chain */
        movq    %rdx, %rdi
        callq   *%rsi
.Lcall_returned:
        fnstcw  (%rsp)
        movzwl  (%rsp), %ecx
        cmpw    4(%rsp), %cx
        jne     .Lcall_control
.Lcall_done:
        movq    48(%rsp), %rbp
        .cfi_remember_state
        .cfi_same_value %rbp
        leaq    FRAME(%rsp), %rsp
        .cfi_adjust_cfa_offset -FRAME
        ret
        .cfi_restore_state
.Lcall_control:                         /* rare: fn changed the rounding mode or the traps */
        movzwl  4(%rsp), %ecx
        fnclex                          /* fn's flags must not trap in its caller */
        fldcw   4(%rsp)
        stmxcsr (%rsp)
        movl    %ecx, %edx
        andl    $0x3f, %ecx             /* trap masks: bits 0-5 of one, 7-12 of the other */
        shll    $7, %ecx
        andl    $0xc00, %edx            /* rounding: bits 10-11, 13-14 */
        shll    $3, %edx
        orl     %ecx, %edx
        andl    $0xffff807f, (%rsp)
        orl     %edx, (%rsp)
        ldmxcsr (%rsp)
        jmp     .Lcall_done
        .cfi_endproc
        .size   rt_context_call, .-rt_context_call

/* void rt_context_return(void *mark, void *value) */
        .globl  rt_context_return
        .hidden rt_context_return
        .type   rt_context_return, @function
        .p2align 4
rt_context_return:
        .cfi_startproc
        movq    %rdi, %rsp              /* the frame of rt_context_call, whose end does the rest */
        .cfi_def_cfa %rsp, FRAME + 8
        .cfi_offset %rip, -8
        .cfi_rel_offset %rbp, 48
        .cfi_rel_offset %rbx, 40
        .cfi_rel_offset %r12, 32
        .cfi_rel_offset %r13, 24
        .cfi_rel_offset %r14, 16
        .cfi_rel_offset %r15, 8
        movq    %rsi, %rax
        movq    8(%rsp), %r15
        movq    16(%rsp), %r14
        movq    24(%rsp), %r13
        movq    32(%rsp), %r12
        movq    40(%rsp), %rbx
        jmp     .Lcall_returned
        .cfi_endproc
        .size   rt_context_return, .-rt_context_return

        .section .note.GNU-stack, "", @progbits
