/* SPDX-License-Identifier: MIT
 *
 * Floor 2. The context switch for 64-bit RISC-V with double-precision registers
 * (ABI lp64d). See context.h.
 *
 * A suspended stack, from its saved pointer upwards:
 *      0  fcsr's rounding mode    8  fs11 ... 96 fs0    104 s11 ... 192 s0    200 ra
 * The last two are a frame record, which this ABI puts below the frame's end, where the frame
 * pointer points: so rt_context_call is in the chain of frame pointers. The rounding mode
 * is all of <fenv.h> that is kept here, since there are no traps. rt_context_call
 * leaves the same picture and compares the mode again after the call.
 *
 * Vector registers and their CSRs belong to no callee. Nothing here is marked for Zicfilp or Zicfiss.
 */
        .text

#ifndef __riscv_float_abi_double
#error "this switch is for lp64d; build the ucontext one for other ABIs"
#endif

#define FRAME 208

/* CFI: where the frame keeps all but s0 and ra, and that they are in their registers again. */
        .macro  cfi_kept_in_frame
        .cfi_rel_offset s1, 184
        .cfi_rel_offset s2, 176
        .cfi_rel_offset s3, 168
        .cfi_rel_offset s4, 160
        .cfi_rel_offset s5, 152
        .cfi_rel_offset s6, 144
        .cfi_rel_offset s7, 136
        .cfi_rel_offset s8, 128
        .cfi_rel_offset s9, 120
        .cfi_rel_offset s10, 112
        .cfi_rel_offset s11, 104
        .cfi_rel_offset fs0, 96
        .cfi_rel_offset fs1, 88
        .cfi_rel_offset fs2, 80
        .cfi_rel_offset fs3, 72
        .cfi_rel_offset fs4, 64
        .cfi_rel_offset fs5, 56
        .cfi_rel_offset fs6, 48
        .cfi_rel_offset fs7, 40
        .cfi_rel_offset fs8, 32
        .cfi_rel_offset fs9, 24
        .cfi_rel_offset fs10, 16
        .cfi_rel_offset fs11, 8
        .endm

        .macro  cfi_kept_in_registers
        .cfi_restore s1
        .cfi_restore s2
        .cfi_restore s3
        .cfi_restore s4
        .cfi_restore s5
        .cfi_restore s6
        .cfi_restore s7
        .cfi_restore s8
        .cfi_restore s9
        .cfi_restore s10
        .cfi_restore s11
        .cfi_restore fs0
        .cfi_restore fs1
        .cfi_restore fs2
        .cfi_restore fs3
        .cfi_restore fs4
        .cfi_restore fs5
        .cfi_restore fs6
        .cfi_restore fs7
        .cfi_restore fs8
        .cfi_restore fs9
        .cfi_restore fs10
        .cfi_restore fs11
        .endm

/* Until the last store the caller's values are in the registers still: CFI in one piece after it. */
        .macro  save_frame
        addi    sp, sp, -FRAME
        .cfi_def_cfa_offset FRAME
        sd      ra, 200(sp)
        sd      s0, 192(sp)
        sd      s1, 184(sp)
        sd      s2, 176(sp)
        sd      s3, 168(sp)
        sd      s4, 160(sp)
        sd      s5, 152(sp)
        sd      s6, 144(sp)
        sd      s7, 136(sp)
        sd      s8, 128(sp)
        sd      s9, 120(sp)
        sd      s10, 112(sp)
        sd      s11, 104(sp)
        fsd     fs0, 96(sp)
        fsd     fs1, 88(sp)
        fsd     fs2, 80(sp)
        fsd     fs3, 72(sp)
        fsd     fs4, 64(sp)
        fsd     fs5, 56(sp)
        fsd     fs6, 48(sp)
        fsd     fs7, 40(sp)
        fsd     fs8, 32(sp)
        fsd     fs9, 24(sp)
        fsd     fs10, 16(sp)
        fsd     fs11, 8(sp)
        .cfi_rel_offset ra, 200
        .cfi_rel_offset s0, 192
        cfi_kept_in_frame
        .endm

        .macro  load_kept
        ld      s1, 184(sp)
        ld      s2, 176(sp)
        ld      s3, 168(sp)
        ld      s4, 160(sp)
        ld      s5, 152(sp)
        ld      s6, 144(sp)
        ld      s7, 136(sp)
        ld      s8, 128(sp)
        ld      s9, 120(sp)
        ld      s10, 112(sp)
        ld      s11, 104(sp)
        fld     fs0, 96(sp)
        fld     fs1, 88(sp)
        fld     fs2, 80(sp)
        fld     fs3, 72(sp)
        fld     fs4, 64(sp)
        fld     fs5, 56(sp)
        fld     fs6, 48(sp)
        fld     fs7, 40(sp)
        fld     fs8, 32(sp)
        fld     fs9, 24(sp)
        fld     fs10, 16(sp)
        fld     fs11, 8(sp)
        .endm

        .macro  load_record_and_leave
        ld      ra, 200(sp)
        ld      s0, 192(sp)
        .cfi_restore ra
        .cfi_restore s0
        addi    sp, sp, FRAME
        .cfi_def_cfa_offset 0
        ret
        .endm

/* void *rt_context_switch(void **save, void *to, void *value) */
        .globl  rt_context_switch
        .hidden rt_context_switch
        .type   rt_context_switch, @function
        .p2align 6
rt_context_switch:
        .cfi_startproc
        save_frame
        frrm    t0
        sd      t0, 0(sp)
        sd      sp, 0(a0)
        /* The layout on both sides is the same, so the CFI above holds across this: */
        mv      sp, a1
        ld      t1, 0(sp)
        bne     t0, t1, .Lswitch_frm
.Lswitch_load:
        load_kept
        mv      a0, a2
        .cfi_remember_state
        cfi_kept_in_registers
        load_record_and_leave
        .cfi_restore_state
.Lswitch_frm:                           /* rare: the two sides have different rounding modes */
        fsrm    t1
        j       .Lswitch_load
        .cfi_endproc
        .size   rt_context_switch, .-rt_context_switch

/* void *rt_context_make(void *top, rt_context_entry *entry) */
        .globl  rt_context_make
        .hidden rt_context_make
        .type   rt_context_make, @function
        .p2align 4
rt_context_make:
        .cfi_startproc
        addi    t0, a0, -FRAME
        addi    a0, a0, -8
        lla     t1, .Lentry
        sd      t1, 0(a0)
.Lmake_zero:                            /* s0 among them: the chain of frame pointers ends here */
        addi    a0, a0, -8
        sd      zero, 0(a0)
        bne     a0, t0, .Lmake_zero
        sd      a1, 184(a0)             /* s1: entry */
        frrm    t1
        sd      t1, 0(a0)
        ret
        .cfi_endproc
        .size   rt_context_make, .-rt_context_make

/* The first frame of a stack: sp is top; a0, what the switch returned, is entry's argument. */
        .type   rt_context_first, @function
        .p2align 4
rt_context_first:
        .cfi_startproc
        .cfi_undefined ra               /* nothing called this */
        nop                             /* an unwinder looks up the return address minus one */
.Lentry:
        jalr    s1
        ebreak
        .cfi_endproc
        .size   rt_context_first, .-rt_context_first

/* void *rt_context_call(void **mark, void *(*fn)(void *), void *arg) */
        .globl  rt_context_call
        .hidden rt_context_call
        .type   rt_context_call, @function
        .p2align 6
rt_context_call:
        .cfi_startproc
        save_frame
        frrm    t0
        sd      t0, 0(sp)
        sd      sp, 0(a0)
        addi    s0, sp, FRAME           /* a frame of its own in the chain */
        mv      a0, a2
        jalr    a1
.Lcall_returned:
        cfi_kept_in_registers
        frrm    t0
        ld      t1, 0(sp)
        bne     t0, t1, .Lcall_frm
.Lcall_done:
        .cfi_remember_state
        load_record_and_leave
        .cfi_restore_state
.Lcall_frm:                             /* rare: fn changed the rounding mode */
        fsrm    t1
        j       .Lcall_done
        .cfi_endproc
        .size   rt_context_call, .-rt_context_call

/* void rt_context_return(void *mark, void *value) */
        .globl  rt_context_return
        .hidden rt_context_return
        .type   rt_context_return, @function
        .p2align 4
rt_context_return:
        .cfi_startproc
        mv      sp, a0                  /* the frame of rt_context_call, whose end does the rest */
        .cfi_def_cfa_offset FRAME
        .cfi_rel_offset ra, 200
        .cfi_rel_offset s0, 192
        cfi_kept_in_frame
        mv      a0, a1
        load_kept
        j       .Lcall_returned
        .cfi_endproc
        .size   rt_context_return, .-rt_context_return

        .section .note.GNU-stack, "", @progbits
