/* SPDX-License-Identifier: MIT
 *
 * Floor 3. The control block of a routine, and the process-wide pool they come from.
 *
 * A block is 128 bytes of type-stable memory: it is never unmapped, and its first two
 * words always are a word as below and the state of its wait, so a handle {block, id} can be checked for
 * ever (R3, R13), and one who comes too late to end a wait does no harm. What is behind them is used for
 * other things too: closures, names, channels.
 *
 * The word is id << RT_WORD_BITS | flags. The id is unique in the process and changes with every
 * incarnation; 0 is no incarnation at all. Whoever is not the executing routine
 * changes the word only by compare-and-swap on an expected id.
 *
 *   STARTED   set once, by whoever wins the right to run it (R1, R4)
 *   ENTRY     a START entry for it stands in a deque. Cleared by whoever takes the entry out, or the
 *             one who starts it knows that it has taken it out, and the bit no longer counts
 *   CANCEL    somebody asked it to stop; sticky
 *   CLAIMED   somebody joins it, has joined it or has given the handle up: only one can (R14)
 *   DETACHED  with CLAIMED: the handle was given up, nobody is waiting
 *   RELEASED  execution is over and the handle used up; only ENTRY keeps the block
 *   EXPIRED   the limit of time in force for it has passed (frame.c). Its own: set and cleared by the routine
 *   LOCKED    a lock, for SCOPED and the list of its scopes (family.h)
 *   SCOPED    it has scopes open; under LOCKED. So it cannot end meanwhile
 *   SHUT_DOWN CANCEL was set by a shutdown of its runtime, which sees to it that it wakes
 *   SETTLED   the one wait in which its cancellation met a waker has been settled (wait.h, K5)
 *
 * A block is recycled when execution is over, the handle is used up and the entry
 * is gone (R1). The first two meet in the oneshot `done`, whose later party releases;
 * then the releaser and whoever drops the entry settle it by RELEASED and ENTRY.
 */
#ifndef RT_SCHED_BLOCK_H
#define RT_SCHED_BLOCK_H

#include "../base/base.h"
#include "../os/futex.h"

typedef struct rt_block rt_block;
typedef struct rt_stack rt_stack;
typedef struct routine_runtime rt_runtime; /* the public name, of what worker.h defines */

enum {
    RT_STARTED = 1,
    RT_ENTRY = 2,
    RT_CANCEL = 4,
    RT_CLAIMED = 8,
    RT_DETACHED = 16,
    RT_RELEASED = 32,
    RT_EXPIRED = 64,
    RT_LOCKED = 128,
    RT_SCOPED = 256,
    RT_SETTLED = 512,
    RT_SHUT_DOWN = 1024,
    RT_WORD_BITS = 11
};

#define RT_WORD(id, flags) ((uint64_t)(id) << RT_WORD_BITS | (uint64_t)(flags))
#define RT_WORD_ID(word)   ((word) >> RT_WORD_BITS)

/* rt_attr.flags */
enum {
    RT_FLAG_COPY_BLOCK = 1,  /* arg points into a block of its own, RT_COPY_OFFSET from its start */
    RT_FLAG_COPY_MALLOC = 2, /* arg was malloc'ed for it */
    RT_FLAG_EXTRA = 4,       /* extra is not null: for those who look at the flags anyway */
    RT_FLAG_STACK = 8,       /* run in place, it has parked: its stack is set, and to be reset */
    RT_FLAG_THREAD = 16,     /* not a routine: the stand-in of a plain thread (park.c) */
    RT_FLAG_FRAMES = 32,     /* done.value is the innermost of its frames (frame.c) */
    RT_FLAG_LIMIT = 64,      /* a limit of time is in force for it, which that frame has */
    RT_FLAG_SHIELD = 128,    /* neither a cancellation nor an outer limit is to reach it */
    RT_FLAG_TOLD = 256,      /* arg is an rt_told */
    RT_FLAG_PANIC = 512,     /* it has panicked: done.value is to be its rt_message (panic.c) */
    RT_FLAG_TIMER = 1024     /* not begun yet: a timer starts it (timers.h) */
};

/* What go writes in one store. */
typedef union {
    struct {
        uint32_t stack_pages; /* promised, in units of RT_STACK_UNIT bytes */
        int16_t status;       /* what join returns: 0 or a negative errno */
        uint16_t flags;
    };
    uint64_t all;
} rt_attr;

#define RT_STACK_UNIT 4096u

/* Whoever started it wants to know when it is over, with all of its user's code, or was cancelled before it
 * started; the last act in which it is `r`. May free what it is part of. */
typedef struct rt_told {
    /* value: what it has returned, or its rt_message; NULL if it never ran: attr.status says why */
    void (*over)(struct rt_told *told, rt_block *r, void *value);
    rt_block *block; /* who it is: set before it is published */
    uint64_t id;
} rt_told;

/* Seldom needed: allocated when it is. */
#define RT_NAME_MAX 96

/* It stands in a block of its own, behind its word, as closures do: so it stays mapped, and a name that is
 * read through a handle that has just gone stale is not a fault. */
typedef struct rt_extra {
    void (*cleanup)(rt_block *); /* run by the ending routine itself, or NULL (local.c) */
    struct rt_more *more;        /* its own; NULL: none */
    char name[RT_NAME_MAX];
} rt_extra;

/* The text of a panic, and where it came from. malloc'ed. */
#define RT_MESSAGE_FRAMES 32
typedef struct {
    int count;
    void *frames[RT_MESSAGE_FRAMES];
    char text[];
} rt_message;

/* Needed still more seldom: malloc'ed, as what it points to. */
typedef struct rt_more {
    void *locals;      /* local.c */
    rt_message *heard; /* of the last join of one that has panicked (panic.c) */
    rt_message *said;  /* of a panic on its way out */
} rt_more;

/* A oneshot's state: one of these, or the address of the block that waits, possibly with SENDING and SHARED.
 */
enum {
    RT_ONESHOT_EMPTY = 0,
    RT_ONESHOT_SENDING = 1, /* a bit, with EMPTY or a waiter: a value is about to come */
    RT_ONESHOT_FULL = 2,
    RT_ONESHOT_TAKEN = 4,
    RT_ONESHOT_CLOSED = 6,
    RT_ONESHOT_SHARED = 8 /* a bit, with a waiter: its wait has to be won (wait.h) */
};

typedef struct {
    _Atomic uintptr_t state;
    void *value; /* the sender's until FULL, then the receiver's. A routine keeps its frames here */
} rt_oneshot;

struct rt_scope;

struct rt_block {
    /* -- the first line: what go and join touch -- */
    RT_ALIGNED _Atomic uint64_t word;
    _Atomic uint64_t wait; /* its wait, and how it ended (wait.h) */
    union {
        void *(*fn)(void *);     /* the spawner's until published, as arg; then the executing routine's */
        struct rt_scope *scopes; /* once it runs: if SCOPED, and under LOCKED, its open scopes */
    };
    void *arg;
    rt_oneshot done;   /* its result */
    const char *where; /* started at: "file:line" */
    rt_attr attr;
    /* -- the second line: the executing routine's -- */
    _Atomic(rt_runtime *) runtime; /* relaxed: read before the word is won, used after */
    void *sp;                      /* while parked: what rt_context_switch saved */
    rt_stack *stack;               /* what it stands on; null: not begun, or run in place and never parked */
    rt_block *link;                /* in the one list that it is in: free, ready, shared */
    void *mark;                    /* where routine_exit leaves to */
    rt_block *parent; /* run in place: the joiner, whose stack it shares (R9). In the pool: the next batch */
    _Atomic(rt_extra *) extra; /* written by its owner, released; null: none */
    _Atomic uint32_t permit;   /* a plain thread's stand-in: the futex it sleeps on */
};

/* It is about to be woken or run, and may be in no cache: both lines. */
RT_INLINE void rt_block_fetch(const rt_block *r)
{
    __builtin_prefetch(r, 1);
    __builtin_prefetch((const char *)r + RT_CACHE_LINE, 1);
}

/* A free block is blank: word 0, stack and extra null, done EMPTY; on a worker's free list its runtime is
 * that worker's. So go need not write these. */
void rt_block_blank(rt_block *block);

_Static_assert(sizeof(rt_block) == 2 * RT_CACHE_LINE, "a control block is two cache lines");

_Static_assert(sizeof(rt_extra) + 16 <= sizeof(rt_block), "an extra fits into a block");

_Static_assert(offsetof(rt_block, word) == 0 && offsetof(rt_block, wait) == 8, "what other uses leave alone");

/* Copies of closures of up to this size live in a block of their own, behind its word. */
#define RT_COPY_OFFSET 16
#define RT_COPY_MAX    (sizeof(rt_block) - RT_COPY_OFFSET)

/* Blocks travel between a worker's free list and the pool in chains of so many, linked by `link`. */
#define RT_BLOCK_BATCH 256

/* A full chain of RT_BLOCK_BATCH blank blocks, or NULL: no memory. Any thread. */
rt_block *rt_block_batch_get(void);

/* Gives a full chain back. Any thread. */
void rt_block_batch_put(rt_block *chain);

/* One block for a caller without a free list. Any thread. */
rt_block *rt_block_get(void);

/* Gives one blank block back. Any thread. */
void rt_block_put(rt_block *block);

/* A range of ids that nobody else gets: [*first, *first + RT_ID_RANGE). */
#define RT_ID_RANGE 1024
uint64_t rt_block_id_range(void);
uint64_t rt_block_id(void);

/* Calls visit for every block there is, in use or not. The pool is locked meanwhile. */
void rt_block_each(void (*visit)(rt_block *, void *), void *arg);

/* fork: before, and after in parent and child (R13). */
void rt_block_fork_lock(void);
void rt_block_fork_unlock(void);

#endif
