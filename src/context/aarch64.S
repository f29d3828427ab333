/* SPDX-License-Identifier: MIT
 *
 * Floor 2. The context switch for AArch64, AAPCS64. See context.h.
 *
 * A suspended stack, from its saved pointer upwards:
 *      0  x29, x30: a frame record, so that rt_context_call is in the chain of frame pointers
 *     16  x19-x28    96  d8-d15    160 FPCR    168 unused
 * FPCR is all of <fenv.h> here (rounding, traps where the CPU has them) and flush to zero
 * besides; reading it is cheap, writing it is not. rt_context_call leaves the same
 * picture and compares FPCR again after the call.
 *
 * Of vector registers a base-standard function keeps d8-d15 only, SVE or not. SME: whoever
 * switches has ZA off or handed over, as before any call that is not declared to share it.
 * Nothing here is marked for BTI, PAC or GCS; it works unmarked in binaries without.
 */
        .text

#define FRAME 176

/* CFI: where the frame keeps all but x29 and x30, and that they are in their registers again. */
        .macro  cfi_kept_in_frame
        .cfi_rel_offset x19, 16
        .cfi_rel_offset x20, 24
        .cfi_rel_offset x21, 32
        .cfi_rel_offset x22, 40
        .cfi_rel_offset x23, 48
        .cfi_rel_offset x24, 56
        .cfi_rel_offset x25, 64
        .cfi_rel_offset x26, 72
        .cfi_rel_offset x27, 80
        .cfi_rel_offset x28, 88
        .cfi_rel_offset d8, 96
        .cfi_rel_offset d9, 104
        .cfi_rel_offset d10, 112
        .cfi_rel_offset d11, 120
        .cfi_rel_offset d12, 128
        .cfi_rel_offset d13, 136
        .cfi_rel_offset d14, 144
        .cfi_rel_offset d15, 152
        .endm

        .macro  cfi_kept_in_registers
        .cfi_restore x19
        .cfi_restore x20
        .cfi_restore x21
        .cfi_restore x22
        .cfi_restore x23
        .cfi_restore x24
        .cfi_restore x25
        .cfi_restore x26
        .cfi_restore x27
        .cfi_restore x28
        .cfi_restore d8
        .cfi_restore d9
        .cfi_restore d10
        .cfi_restore d11
        .cfi_restore d12
        .cfi_restore d13
        .cfi_restore d14
        .cfi_restore d15
        .endm

/* Until the last store the caller's values are in the registers still: CFI in one piece after it. */
        .macro  save_frame
        stp     x29, x30, [sp, #-FRAME]!
        .cfi_def_cfa_offset FRAME
        .cfi_rel_offset x29, 0
        .cfi_rel_offset x30, 8
        stp     x19, x20, [sp, #16]
        stp     x21, x22, [sp, #32]
        stp     x23, x24, [sp, #48]
        stp     x25, x26, [sp, #64]
        stp     x27, x28, [sp, #80]
        stp     d8, d9, [sp, #96]
        stp     d10, d11, [sp, #112]
        stp     d12, d13, [sp, #128]
        stp     d14, d15, [sp, #144]
        cfi_kept_in_frame
        .endm

        .macro  load_kept
        ldp     x19, x20, [sp, #16]
        ldp     x21, x22, [sp, #32]
        ldp     x23, x24, [sp, #48]
        ldp     x25, x26, [sp, #64]
        ldp     x27, x28, [sp, #80]
        ldp     d8, d9, [sp, #96]
        ldp     d10, d11, [sp, #112]
        ldp     d12, d13, [sp, #128]
        ldp     d14, d15, [sp, #144]
        .endm

/* void *rt_context_switch(void **save, void *to, void *value) */
        .globl  rt_context_switch
        .hidden rt_context_switch
        .type   rt_context_switch, %function
        .p2align 6
rt_context_switch:
        .cfi_startproc
        save_frame
        mrs     x3, fpcr
        str     x3, [sp, #160]
        mov     x4, sp
        str     x4, [x0]
        /* The layout on both sides is the same, so the CFI above holds across this: */
        mov     sp, x1
        ldr     x4, [sp, #160]
        cmp     x3, x4
        b.ne    .Lswitch_fpcr
.Lswitch_load:
        load_kept
        .cfi_remember_state
        cfi_kept_in_registers
        mov     x0, x2
        ldp     x29, x30, [sp], #FRAME
        .cfi_restore x29
        .cfi_restore x30
        .cfi_def_cfa_offset 0
        ret
        .cfi_restore_state
.Lswitch_fpcr:                          /* rare: the two sides have different control words */
        msr     fpcr, x4
        b       .Lswitch_load
        .cfi_endproc
        .size   rt_context_switch, .-rt_context_switch

/* void *rt_context_make(void *top, rt_context_entry *entry) */
        .globl  rt_context_make
        .hidden rt_context_make
        .type   rt_context_make, %function
        .p2align 4
rt_context_make:
        .cfi_startproc
        sub     x0, x0, #FRAME
        adr     x2, .Lentry
        stp     xzr, x2, [x0]           /* x29: the chain of frame pointers ends here */
        stp     x1, xzr, [x0, #16]      /* x19: entry */
        stp     xzr, xzr, [x0, #32]
        stp     xzr, xzr, [x0, #48]
        stp     xzr, xzr, [x0, #64]
        stp     xzr, xzr, [x0, #80]
        stp     xzr, xzr, [x0, #96]
        stp     xzr, xzr, [x0, #112]
        stp     xzr, xzr, [x0, #128]
        stp     xzr, xzr, [x0, #144]
        mrs     x2, fpcr
        stp     x2, xzr, [x0, #160]
        ret
        .cfi_endproc
        .size   rt_context_make, .-rt_context_make

/* The first frame of a stack: sp is top; x0, what the switch returned, is entry's argument. */
        .type   rt_context_first, %function
        .p2align 4
rt_context_first:
        .cfi_startproc
        .cfi_undefined x30              /* nothing called this */
        nop                             /* an unwinder looks up the return address minus one */
.Lentry:
        blr     x19
        brk     #1
        .cfi_endproc
        .size   rt_context_first, .-rt_context_first

/* void *rt_context_call(void **mark, void *(*fn)(void *), void *arg) */
        .globl  rt_context_call
        .hidden rt_context_call
        .type   rt_context_call, %function
        .p2align 6
rt_context_call:
        .cfi_startproc
        save_frame
        mrs     x3, fpcr
        str     x3, [sp, #160]
        mov     x29, sp                 /* a frame of its own in the chain */
        str     x29, [x0]
        mov     x0, x2
        blr     x1
.Lcall_returned:
        cfi_kept_in_registers
        mrs     x1, fpcr
        ldr     x2, [sp, #160]
        cmp     x1, x2
        b.ne    .Lcall_fpcr
.Lcall_done:
        ldp     x29, x30, [sp], #FRAME
        .cfi_remember_state
        .cfi_restore x29
        .cfi_restore x30
        .cfi_def_cfa_offset 0
        ret
        .cfi_restore_state
.Lcall_fpcr:                            /* rare: fn changed the rounding mode or the traps */
        msr     fpcr, x2
        b       .Lcall_done
        .cfi_endproc
        .size   rt_context_call, .-rt_context_call

/* void rt_context_return(void *mark, void *value) */
        .globl  rt_context_return
        .hidden rt_context_return
        .type   rt_context_return, %function
        .p2align 4
rt_context_return:
        .cfi_startproc
        mov     sp, x0                  /* the frame of rt_context_call, whose end does the rest */
        .cfi_def_cfa_offset FRAME
        .cfi_rel_offset x29, 0
        .cfi_rel_offset x30, 8
        cfi_kept_in_frame
        mov     x0, x1
        load_kept
        b       .Lcall_returned
        .cfi_endproc
        .size   rt_context_return, .-rt_context_return

        .section .note.GNU-stack, "", %progbits
