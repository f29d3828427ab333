/* SPDX-License-Identifier: MIT
 *
 * What context_cfi_test.sh steps through: every instruction of x86_64.S once at least, with the patterns
 * below in the registers, between begin() and end(). The script knows the functions and
 * the arrays by name. Links context_abi_x86_64.S.
 */
#include "context/context.h"

void *context_abi_switch(void **save, void *to, void *value, const uint64_t *load, uint64_t *seen);
void *context_abi_call(void **mark, void *(*fn)(void *), void *arg, const uint64_t *load, uint64_t *seen);
void context_abi_control(const uint64_t *load);

/* What context_cfi_test.sh reads or finds in backtraces. */
extern uint64_t outside_words[8], inside_words[8], call_words[8];
void begin(void);
void end(void);
void outside(void);
void inside(void *value);
void inner(void);
void calling(void *(*fn)(void *));
void *plain(void *arg);
void *spoiling(void *arg);
void *returning(void *arg);
void *returning_deeper(void *arg);

uint64_t outside_words[8] = {0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0x1f80, 0x37f};
uint64_t inside_words[8] = {0xb1, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0x1f80, 0x37f};
uint64_t call_words[8] = {0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0x1f80, 0x37f};

static const uint64_t upward[8] = {0, 0, 0, 0, 0, 0, 0x5f80, 0xb7f};
static _Alignas(64) char stack[64 * 1024];
static void *suspended_outside, *suspended_inside, *mark;
static uint64_t seen[8];

#define NOT_A_TAIL_CALL() __asm__ volatile("" ::: "memory")

RT_NOINLINE void begin(void)
{
    NOT_A_TAIL_CALL();
}

RT_NOINLINE void end(void)
{
    NOT_A_TAIL_CALL();
}

RT_NOINLINE void inner(void)
{
    context_abi_switch(&suspended_inside, suspended_outside, NULL, inside_words, seen);
    NOT_A_TAIL_CALL();
}

RT_NOINLINE void inside(void *value)
{
    (void)value;
    for (;;)
        inner();
}

RT_NOINLINE void outside(void)
{
    context_abi_switch(&suspended_outside, suspended_inside, NULL, outside_words, seen);
    NOT_A_TAIL_CALL();
}

RT_NOINLINE void *plain(void *arg)
{
    return arg;
}

RT_NOINLINE void *spoiling(void *arg)
{
    context_abi_control(upward);
    NOT_A_TAIL_CALL();
    return arg;
}

RT_NOINLINE void *returning_deeper(void *arg)
{
    /* So that none of the patterns is still in its register where rt_context_return begins. */
    __asm__ volatile("xorl %%ebx, %%ebx\n\t"
                     "xorl %%r12d, %%r12d\n\t"
                     "xorl %%r13d, %%r13d\n\t"
                     "xorl %%r14d, %%r14d\n\t"
                     "xorl %%r15d, %%r15d"
                     :
                     :
                     : "rbx", "r12", "r13", "r14", "r15", "cc");
    rt_context_return(mark, arg);
}

RT_NOINLINE void *returning(void *arg)
{
    void *result = returning_deeper(arg);
    NOT_A_TAIL_CALL();
    return result;
}

RT_NOINLINE void calling(void *(*fn)(void *))
{
    context_abi_call(&mark, fn, NULL, call_words, seen);
    NOT_A_TAIL_CALL();
}

int main(void)
{
    begin();
    suspended_inside = rt_context_make(stack + sizeof stack, inside);
    outside(); /* enters */
    outside(); /* resumes, control words alike */
    outside_words[6] = upward[6];
    outside_words[7] = upward[7];
    outside(); /* and different */
    calling(plain);
    calling(spoiling);
    calling(returning);
    end();
    return 0;
}
