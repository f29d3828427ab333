/* SPDX-License-Identifier: MIT
 *
 * The checks of src/context; see context_check.h. Inside a context a failed check only notes its
 * message, goes on, and the check's function reports it after switching back.
 *
 * Built with RT_CONTEXT_UCONTEXT defined where ucontext.c is what is tested: its
 * unwinding ends in libc's frames and its rt_context_call has no frame pointer of its own.
 */
#define _GNU_SOURCE
#include "context_check.h"

#include "context/context.h"

#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unwind.h>

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_UNPOISON_MEMORY_REGION(from, size) ((void)(from), (void)(size))
#endif

enum { STACK_SIZE = 64 * 1024 };

static char message[256];

static int __attribute__((format(printf, 1, 2))) fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return 1;
}

const char *context_check_message(void)
{
    return message;
}

static char *new_stack(void)
{
    char *stack = aligned_alloc(64, STACK_SIZE);
    if (stack == NULL)
        abort();
    memset(stack, 0xa5, STACK_SIZE); /* nothing may rely on zeros */
    return stack;
}

/* One context and who switches with it. */
struct peer {
    void *outside; /* the check's own stack, while suspended */
    void *inside;
    char *stack;
    int failed;
};

static void peer_make(struct peer *p, rt_context_entry *entry)
{
    p->stack = new_stack();
    p->inside = rt_context_make(p->stack + STACK_SIZE, entry);
    p->failed = 0;
}

/* Nothing but frames that never ended is left on the stack; its lowest bytes must be untouched. */
static void peer_free(struct peer *p)
{
    ASAN_UNPOISON_MEMORY_REGION(p->stack, STACK_SIZE);
    for (size_t i = 0; i < 256; i++)
        if (p->stack[i] != (char)0xa5) {
            p->failed = fail("the stack overflowed");
            break;
        }
    free(p->stack);
}

static void *enter(struct peer *p, void *value)
{
    return rt_context_switch(&p->outside, p->inside, value);
}

static void *leave(struct peer *p, void *value)
{
    return rt_context_switch(&p->inside, p->outside, value);
}

static RT_NORETURN void leave_for_good(struct peer *p)
{
    leave(p, NULL);
    abort();
}

/* rt_context_return leaves frames without their ends, where AddressSanitizer clears its marks; who calls it
 * does. */
static RT_NOINLINE void abandon(void *mark)
{
    char *from = __builtin_frame_address(0);
    ASAN_UNPOISON_MEMORY_REGION(from, (size_t)((char *)mark - from));
}

/* ---- every register the callee keeps ---- */

#if defined(__x86_64__)
static const char *const abi_names[] = {"rbx", "rbp", "r12", "r13", "r14", "r15", "mxcsr", "x87 control"};
#elif defined(__aarch64__)
static const char *const abi_names[] = {"x19", "x20", "x21", "x22", "x23", "x24", "x25",
                                        "x26", "x27", "x28", "x29", "d8",  "d9",  "d10",
                                        "d11", "d12", "d13", "d14", "d15", "fpcr"};
#elif defined(__riscv) && __riscv_xlen == 64 && defined(__riscv_float_abi_double)
static const char *const abi_names[] = {"s0",  "s1",  "s2",  "s3",  "s4",   "s5",   "s6",  "s7",  "s8",
                                        "s9",  "s10", "s11", "fs0", "fs1",  "fs2",  "fs3", "fs4", "fs5",
                                        "fs6", "fs7", "fs8", "fs9", "fs10", "fs11", "frm"};
#else
#define NO_ABI
#endif

#ifndef NO_ABI

enum { ABI_WORDS = sizeof abi_names / sizeof abi_names[0], ABI_ROUNDS = 128 };

void *context_abi_switch(void **save, void *to, void *value, const uint64_t *load, uint64_t *seen);
void *context_abi_call(void **mark, void *(*fn)(void *), void *arg, const uint64_t *load, uint64_t *seen);
void context_abi_return(void *mark, void *value, const uint64_t *load);
void context_abi_control(const uint64_t *load);

/* Words that no register, round or side shares; the control words from all that `seed` selects. In half of
 * the rounds only one of x86-64's two changes from one side to the other, since each is
 * compared by itself. `agree`: they say the same, which is all that rt_context_call promises to mend. */
static void abi_fill(uint64_t *words, unsigned seed, bool agree)
{
    for (unsigned i = 0; i < ABI_WORDS; i++)
        words[i] = (seed * UINT64_C(64) + i + 1) * UINT64_C(0x9e3779b97f4a7c15);
#if defined(__x86_64__)
    bool together = agree || (seed & 16) != 0;
    uint64_t mxcsr = together ? seed : seed / 2, x87 = together ? seed : (seed + 1) / 2;
    words[6] = (~(mxcsr * 11) & 63) << 7 | (mxcsr & 3) << 13 | (agree ? 0 : (mxcsr & 1) * UINT64_C(0x8040));
    words[7] = 0x40 | (~(x87 * 11) & 63) | (x87 & 3) << 10 | (x87 & 8 ? 0x300 : 0x200);
#elif defined(__aarch64__)
    (void)agree;
    words[ABI_WORDS - 1] = (uint64_t)(seed % 16) << 22; /* rounding, flush to zero, default NaN */
#else
    (void)agree;
    words[ABI_WORDS - 1] = seed % 5;
#endif
}

/* Overwrites the stack below, where a frame without one of its stores might find an old copy. */
static RT_NOINLINE void abi_scrub(void)
{
    volatile char below[2048];
    for (size_t i = 0; i < sizeof below; i++)
        below[i] = 0x5a;
}

static int abi_compare(const char *what, const uint64_t *load, const uint64_t *seen)
{
    for (unsigned i = 0; i < ABI_WORDS; i++)
        if (seen[i] != load[i])
            return fail("%s: %s was %#llx, is %#llx", what, abi_names[i], (unsigned long long)load[i],
                        (unsigned long long)seen[i]);
    return 0;
}

static void abi_switch_inside(void *value)
{
    struct peer *p = value;
    for (unsigned seed = 1;; seed += 2) {
        uint64_t load[ABI_WORDS], seen[ABI_WORDS];
        abi_fill(load, seed, false);
        abi_scrub();
        if (context_abi_switch(&p->inside, p->outside, &load, load, seen) != p)
            p->failed = fail("value lost on the way in");
        p->failed |= abi_compare("switch, inside", load, seen);
    }
}

static int check_abi_switch(void)
{
    struct peer p;
    peer_make(&p, abi_switch_inside);
    for (unsigned seed = 0; seed < 2 * ABI_ROUNDS && !p.failed; seed += 2) {
        uint64_t load[ABI_WORDS], seen[ABI_WORDS];
        abi_fill(load, seed, false);
        abi_scrub();
        context_abi_switch(&p.outside, p.inside, &p, load, seen);
        p.failed |= abi_compare("switch, outside", load, seen);
    }
    peer_free(&p);
    return p.failed;
}

struct abi_deep {
    void *mark;
    unsigned seed, frames;
};

static void *(*volatile abi_deep_again)(void *);

static void *abi_deep(void *arg)
{
    struct abi_deep *deep = arg;
    uint64_t load[ABI_WORDS];
    abi_fill(load, deep->seed + deep->frames, true);
    context_abi_control(load);
    if (deep->frames-- == 0) {
        abandon(deep->mark);
        context_abi_return(deep->mark, deep, load);
    }
    void *result = abi_deep_again(arg);
    load[0]++; /* not a tail call */
    return result;
}

static void *abi_spoil_control(void *arg)
{
    struct abi_deep *deep = arg;
    uint64_t load[ABI_WORDS];
    abi_fill(load, deep->seed, true);
    context_abi_control(load);
    return deep;
}

static int check_abi_call(void)
{
    int failed = 0;
    abi_deep_again = abi_deep;
    for (unsigned round = 0; round < ABI_ROUNDS && !failed; round++) {
        struct abi_deep deep = {NULL, round + 1, round % 7};
        uint64_t load[ABI_WORDS], seen[ABI_WORDS];
        abi_fill(load, round, true);
        abi_scrub();
        if (context_abi_call(&deep.mark, abi_deep, &deep, load, seen) != &deep)
            return fail("rt_context_return: wrong value");
        failed |= abi_compare("rt_context_return", load, seen);
        abi_scrub();
        if (context_abi_call(&deep.mark, abi_spoil_control, &deep, load, seen) != &deep)
            return fail("rt_context_call: wrong value");
        failed |= abi_compare("rt_context_call", load, seen);
    }
    return failed;
}

#endif /* NO_ABI */

/* ---- control words as C sees them ---- */

#if defined(FE_UPWARD) && defined(FE_DOWNWARD)
#define ROUNDING

/* Whether <fenv.h> and arithmetic both say `mode`. The nearest double is below 1/3 and above 1/10. */
static bool rounds(int mode)
{
    static const double nearest_third = 1.0 / 3.0, nearest_tenth = 1.0 / 10.0;
    volatile double one = 1, three = 3, ten = 10;
    double third = one / three, tenth = one / ten;
    return fegetround() == mode && (third > nearest_third) == (mode == FE_UPWARD) &&
           (tenth < nearest_tenth) == (mode == FE_DOWNWARD);
}

struct rounding {
    struct peer peer;
    int made; /* the mode of the context's maker */
};

static void rounding_inside(void *value)
{
    struct rounding *r = value;
    if (!rounds(r->made))
        r->peer.failed = fail("the context does not have its maker's rounding mode");
    fesetround(FE_TONEAREST);
    leave(&r->peer, NULL);
    if (!rounds(FE_TONEAREST))
        r->peer.failed = fail("the context's rounding mode changed while it was suspended");
    fesetround(r->made);
    leave_for_good(&r->peer);
}

static int rounding_switch(int made, int other)
{
    struct rounding r = {.made = made};
    fesetround(made);
    peer_make(&r.peer, rounding_inside);
    fesetround(FE_TONEAREST);
    enter(&r.peer, &r);
    if (!rounds(FE_TONEAREST))
        r.peer.failed = fail("the context's rounding mode came along");
    fesetround(other);
    enter(&r.peer, &r);
    if (!rounds(other))
        r.peer.failed = fail("the rounding mode changed during a switch");
    fesetround(FE_TONEAREST);
    peer_free(&r.peer);
    return r.peer.failed;
}

static int check_rounding_switch(void)
{
    return rounding_switch(FE_UPWARD, FE_DOWNWARD) | rounding_switch(FE_DOWNWARD, FE_UPWARD);
}

static void *rounding_fn(void *arg)
{
    fesetround(FE_UPWARD);
    if (arg != NULL) {
        abandon(*(void **)arg);
        rt_context_return(*(void **)arg, arg);
    }
    return arg;
}

static int check_rounding_call(void)
{
    static const int modes[] = {FE_TONEAREST, FE_DOWNWARD};
    int failed = 0;
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        void *mark;
        fesetround(modes[i]);
        if (rt_context_call(&mark, rounding_fn, NULL) != NULL || !rounds(modes[i]))
            failed = fail("rt_context_call left the rounding mode changed");
        if (rt_context_call(&mark, rounding_fn, &mark) != &mark || !rounds(modes[i]))
            failed = fail("rt_context_return left the rounding mode changed");
    }
    fesetround(FE_TONEAREST);
    return failed;
}
#endif

#if defined(__x86_64__) && defined(__GLIBC__)
/* The x87 flags belong to no callee and no context: one raised where it is masked must not
 * trap where it is not, or in the switch itself. SIGFPE is this check's failure. */
static void raise_x87_flag(void)
{
    volatile long double one = 1, zero = 0;
    one = one / zero;
}

static void use_x87(void)
{
    volatile long double one = 1;
    one = one + one;
}

static void traps_inside(void *value)
{
    struct peer *p = value;
    feenableexcept(FE_DIVBYZERO);
    leave(p, NULL);
    use_x87();
    if (fegetexcept() != FE_DIVBYZERO)
        p->failed = fail("the context lost its traps");
    leave_for_good(p);
}

static void *traps_fn(void *arg)
{
    fedisableexcept(FE_DIVBYZERO);
    raise_x87_flag();
    return arg;
}

static int check_traps(void)
{
    struct peer p;
    void *mark;
    peer_make(&p, traps_inside);
    enter(&p, &p);
    raise_x87_flag();
    enter(&p, &p);
    peer_free(&p);
    if (fegetexcept() != 0)
        return fail("a context's traps stayed enabled outside");
    feclearexcept(FE_ALL_EXCEPT);
    feenableexcept(FE_DIVBYZERO);
    rt_context_call(&mark, traps_fn, NULL);
    use_x87();
    if (fegetexcept() != FE_DIVBYZERO)
        p.failed = fail("rt_context_call did not restore the traps");
    fedisableexcept(FE_DIVBYZERO);
    feclearexcept(FE_ALL_EXCEPT);
    return p.failed;
}
#endif

/* ---- stacks, values, masks ---- */

/* x86-64: rbp is 16 below the caller's frame; elsewhere too the ABI aligns what this returns. */
#define MISALIGNED() ((uintptr_t)__builtin_frame_address(0) % 16 != 0)

static void *alignment_fn(void *arg)
{
    if (MISALIGNED())
        ((struct peer *)arg)->failed = fail("stack misaligned in rt_context_call's function");
    return arg;
}

static void alignment_inside(void *value)
{
    struct peer *p = value;
    void *mark;
    if (MISALIGNED())
        p->failed = fail("stack misaligned at entry");
    rt_context_call(&mark, alignment_fn, p);
    leave_for_good(p);
}

static int check_alignment(void)
{
    struct peer p;
    char *stack = new_stack();
    p.failed = 0;
    for (size_t below = 0; below <= 256 && !p.failed; below += 16) {
        p.inside = rt_context_make(stack + STACK_SIZE - below, alignment_inside);
        enter(&p, &p);
        for (size_t i = STACK_SIZE - below; i < STACK_SIZE; i++)
            if (stack[i] != (char)0xa5)
                p.failed = fail("written above the stack's top");
        ASAN_UNPOISON_MEMORY_REGION(stack, STACK_SIZE); /* the context's frames never ended */
        memset(stack, 0xa5, STACK_SIZE);
    }
    free(stack);
    return p.failed;
}

static void values_inside(void *value)
{
    struct peer *p = value;
    for (uintptr_t i = 1;; i++)
        if (leave(p, (void *)(i * 3)) != (void *)(i * 5))
            p->failed = fail("wrong value inside, round %lu", (unsigned long)i);
}

static int check_values(void)
{
    struct peer p;
    void *value = &p;
    peer_make(&p, values_inside);
    for (uintptr_t i = 1; i < 1000 && !p.failed; i++) {
        if (enter(&p, value) != (void *)(i * 3))
            p.failed = fail("wrong value outside, round %lu", (unsigned long)i);
        value = (void *)(i * 5);
    }
    peer_free(&p);
    return p.failed;
}

static bool usr2_blocked(void)
{
    sigset_t mask;
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    return sigismember(&mask, SIGUSR2);
}

static void block_usr2(int how)
{
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    pthread_sigmask(how, &mask, NULL);
}

static void *mask_fn(void *arg)
{
    block_usr2(SIG_UNBLOCK);
    abandon(*(void **)arg);
    rt_context_return(*(void **)arg, NULL);
}

static void mask_inside(void *value)
{
    struct peer *p = value;
    void *mark;
    if (!usr2_blocked())
        p->failed = fail("a new context changed the thread's signal mask");
    rt_context_call(&mark, mask_fn, &mark);
    if (usr2_blocked())
        p->failed = fail("rt_context_return changed the thread's signal mask");
    leave_for_good(p);
}

static int check_mask(void)
{
    struct peer p;
    peer_make(&p, mask_inside);
    block_usr2(SIG_BLOCK);
    enter(&p, &p);
    if (usr2_blocked())
        p.failed = fail("a switch changed the thread's signal mask");
    block_usr2(SIG_UNBLOCK);
    peer_free(&p);
    return p.failed;
}

/* ---- calls within calls ---- */

enum { NESTED = 8 }; /* ucontext.c's frames hold a ucontext_t each, 4.5 KiB on AArch64 */

struct nested {
    struct peer *peer; /* switch to and fro at the innermost, or NULL */
    void *marks[NESTED];
    unsigned depth, target;
    unsigned returned; /* levels whose rt_context_call came back */
    bool abandoned;    /* code after a call that was to be cut ran */
};

static void *nested_fn(void *arg)
{
    struct nested *n = arg;
    volatile unsigned level = n->depth++;
    unsigned long local[4] = {level, level + 1ul, level + 2ul, level + 3ul};
    __asm__ volatile("" : : "r"(local) : "memory");
    if (level == NESTED) {
        if (n->peer != NULL)
            leave(n->peer, NULL);
        abandon(n->marks[n->target]);
        rt_context_return(n->marks[n->target], n);
    }
    void *result = rt_context_call(&n->marks[level], nested_fn, n);
    n->returned++;
    if (result != n || level > n->target || local[0] != level || local[3] != level + 3ul)
        n->abandoned = true;
    return result;
}

static int nested_run(struct peer *p, unsigned target)
{
    struct nested n = {.peer = p, .target = target};
    void *result = nested_fn(&n);
    if (result != &n || n.abandoned || n.returned != target + 1)
        return fail("target %u: %u levels returned%s", target, n.returned,
                    n.abandoned ? ", or one abandoned or damaged" : "");
    return 0;
}

static void nested_inside(void *value)
{
    struct peer *p = value;
    for (unsigned target = 0; target < NESTED && !p->failed; target++)
        p->failed |= nested_run(p, target);
    leave_for_good(p);
}

static int check_nested(void)
{
    struct peer p;
    int failed = 0;
    for (unsigned target = 0; target < NESTED && !failed; target++)
        failed |= nested_run(NULL, target);
    peer_make(&p, nested_inside);
    for (unsigned i = 0; i <= NESTED && !p.failed; i++)
        enter(&p, &p);
    peer_free(&p);
    return failed | p.failed;
}

/* ---- many contexts ---- */

enum { MANY = 1000, MANY_ROUNDS = 20 };

struct ring {
    void *suspended[MANY + 1]; /* the last one is the check itself */
    unsigned at;
    unsigned long sum;
    int failed;
};

static void ring_next(struct ring *r, unsigned self)
{
    r->at = (self + 1) % (MANY + 1);
    if (rt_context_switch(&r->suspended[self], r->suspended[r->at], r) != r || r->at != self)
        r->failed = fail("context %u resumed in place of %u", r->at, self);
}

static void ring_inside(void *value)
{
    struct ring *r = value;
    const unsigned self = r->at;
    for (volatile unsigned long round = 0;; round++) {
        r->sum += self * (round + 1);
        ring_next(r, self);
    }
}

static int check_many(void)
{
    static struct ring r;
    static char *stacks[MANY];
    unsigned long expected = 0;
    memset(&r, 0, sizeof r);
    for (unsigned i = 0; i < MANY; i++) {
        stacks[i] = new_stack();
        r.suspended[i] = rt_context_make(stacks[i] + STACK_SIZE, ring_inside);
    }
    for (unsigned long round = 0; round < MANY_ROUNDS; round++) {
        ring_next(&r, MANY);
        expected += (round + 1) * (MANY * (MANY - 1ul) / 2);
    }
    for (unsigned i = 0; i < MANY; i++)
        free(stacks[i]);
    if (r.sum != expected)
        return fail("sum %lu, not %lu", r.sum, expected);
    return r.failed;
}

/* ---- from thread to thread ---- */

static _Thread_local int thread_number;

static RT_NOINLINE int thread_now(void)
{
    int *number = &thread_number;
    __asm__ volatile("" : "+r"(number) : : "memory");
    return *number;
}

static void threads_inside(void *value)
{
    struct peer *p = value;
    for (volatile int round = 0;; round++) {
        int expected = round % 3;
        if (thread_now() != expected)
            p->failed = fail("round %d: thread %d, not %d", round, thread_now(), expected);
        if (leave(p, p) != p)
            p->failed = fail("round %d: wrong value", round);
    }
}

struct visitor {
    struct peer *peer;
    int number;
};

static void *visit(void *arg)
{
    struct visitor *v = arg;
    thread_number = v->number;
    return enter(v->peer, v->peer);
}

static int check_threads(void)
{
    struct peer p;
    peer_make(&p, threads_inside);
    for (int round = 0; round < 30 && !p.failed; round++) {
        struct visitor v = {&p, round % 3};
        void *result = NULL;
        pthread_t thread;
        if (v.number == 0)
            result = visit(&v);
        else if (pthread_create(&thread, NULL, visit, &v) != 0 || pthread_join(thread, &result) != 0)
            p.failed = fail("no thread");
        if (result != &p)
            p.failed = fail("round %d: wrong value outside", round);
    }
    peer_free(&p);
    return p.failed;
}

/* ---- unwinding ---- */

enum { FRAMES = 12, ROOM = 64 };

#ifdef RT_CONTEXT_UCONTEXT
enum { FIRST_FRAMES = 3 }; /* first() and libc's __start_context, where libc unwinds that far */
#else
enum { FIRST_FRAMES = 1 }; /* rt_context_first */
#endif

struct unwound {
    struct peer peer;
    context_check_capture *capture;
    void *addresses[ROOM];
    unsigned frames;
};

static int (*volatile unwind_again)(struct unwound *);

static RT_NOINLINE int unwind_deep(struct unwound *u)
{
    int count = --u->frames > 0 ? unwind_again(u) : u->capture(u->addresses, ROOM);
    __asm__ volatile("" : "+r"(count)); /* not a tail call */
    return count;
}

/* expected: FRAMES of unwind_deep, capture, and those that the caller says are between. */
static void unwind_compare(struct unwound *u, int count, int between)
{
    int expected = 1 + FRAMES + between + FIRST_FRAMES;
    int least = FIRST_FRAMES == 1 ? expected : expected - FIRST_FRAMES + 1;
    if (count < least || count > expected)
        u->peer.failed = fail("%d frames, not %d", count, expected);
    for (int i = 2; i < FRAMES && i < count; i++)
        if (u->addresses[i] != u->addresses[2])
            u->peer.failed = fail("frame %d is not the expected one", i);
}

static void *unwind_fn(void *arg)
{
    struct unwound *u = arg;
    u->frames = FRAMES;
    unwind_compare(u, unwind_deep(u), 3);
    return arg;
}

static void unwind_inside(void *value)
{
    struct unwound *u = value;
    void *mark;
    u->frames = FRAMES;
    unwind_compare(u, unwind_deep(u), 1);
    rt_context_call(&mark, unwind_fn, u);
    leave_for_good(&u->peer);
}

int context_check_backtrace_by(context_check_capture *capture)
{
    struct unwound u = {.capture = capture};
    unwind_again = unwind_deep;
    peer_make(&u.peer, unwind_inside);
    enter(&u.peer, &u);
    peer_free(&u.peer);
    return u.peer.failed;
}

struct tracing {
    void **addresses;
    int count, size;
};

static _Unwind_Reason_Code trace(struct _Unwind_Context *frame, void *arg)
{
    struct tracing *t = arg;
    if (t->count == t->size)
        return _URC_END_OF_STACK;
    t->addresses[t->count] = (void *)_Unwind_GetIP(frame);
    if (t->addresses[t->count] != NULL) /* some unwinders show the undefined caller as a last zero */
        t->count++;
    return _URC_NO_REASON;
}

static int capture_by_libgcc(void **addresses, int size)
{
    struct tracing t = {addresses, 0, size};
    _Unwind_Backtrace(trace, &t);
    return t.count;
}

static int check_unwinding(void)
{
    return context_check_backtrace_by(capture_by_libgcc);
}

#ifndef RT_CONTEXT_UCONTEXT
/* The frame pointer that the frame with this one saved. RISC-V keeps it below, the others at it. */
static void **previous(void **frame)
{
#ifdef __riscv
    return frame[-2];
#else
    return frame[0];
#endif
}

struct chain {
    struct peer peer;
    void **entry; /* entry's frame */
};

static void *chain_fn(void *arg)
{
    struct chain *c = arg;
    void **call = previous(__builtin_frame_address(0));
    if (call == c->entry || previous(call) != c->entry)
        c->peer.failed = fail("rt_context_call is not in the chain of frame pointers");
    return arg;
}

static void chain_inside(void *value)
{
    struct chain *c = value;
    void *mark;
    c->entry = __builtin_frame_address(0);
    if (previous(c->entry) != NULL)
        c->peer.failed = fail("the chain of frame pointers does not end in zero");
    rt_context_call(&mark, chain_fn, c);
    leave_for_good(&c->peer);
}

static int check_frame_pointers(void)
{
    struct chain c;
    peer_make(&c.peer, chain_inside);
    enter(&c.peer, &c);
    peer_free(&c.peer);
    return c.peer.failed;
}
#endif

const struct context_check context_checks[] = {
#ifndef NO_ABI
    {"registers across a switch", check_abi_switch},
    {"registers across call and return", check_abi_call},
#endif
#ifdef ROUNDING
    {"rounding mode across a switch", check_rounding_switch},
    {"rounding mode across call and return", check_rounding_call},
#endif
#if defined(__x86_64__) && defined(__GLIBC__)
    {"traps and flags raised elsewhere", check_traps},
#endif
    {"alignment", check_alignment},
    {"values", check_values},
    {"signal mask", check_mask},
    {"nested calls", check_nested},
    {"a thousand contexts", check_many},
    {"between threads", check_threads},
    {"unwinding", check_unwinding},
#ifndef RT_CONTEXT_UCONTEXT
    {"frame pointers", check_frame_pointers},
#endif
};

const size_t context_check_count = sizeof context_checks / sizeof context_checks[0];
