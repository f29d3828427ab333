/* SPDX-License-Identifier: MIT
 *
 * What does a search cost in a tree of which nobody knows the shape beforehand? It is UTS, "Unbalanced
 * Tree Search" (Olivier and others, LCPC 2006), of its binomial kind: a root with 2000 children, and every
 * other node has eight with a probability of 0.124875, else none. That is just below the one (1/8) at which
 * trees become infinite: most of the 2000 subtrees are a few nodes, one is a million, and whoever searches a
 * subtree finds out by doing it. A routine for each child, leaves too. ns_per_op is the time of a node.
 *
 * "tree": a node's number is its parent's, hashed 24 times, about the work of the SHA-1 that UTS computes.
 * "tree_fine": hashed once, so that next to nothing is left but starting and joining.
 *
 * "routines" joins the children in the order of their start, "routines-backward" the last one first, and
 * "routines-scope" has a scope around them. "limit-serial" is the recursion without routines, "limit-cas" the
 * same with an uncontended compare-and-swap for each child. How many nodes the trees have is known, and
 * checked.
 *
 * ROUTINES_BENCH_TREE: how many children the root has, 2000 unless given.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include <routines/routine.h>
#include <routines/scope.h>

#include "harness.h"
#include "mix.h"

enum { CHILDREN = 8 };

/* Of 2^32 nodes so many have children. */
static const uint64_t INNER = 536334041;

_Static_assert(sizeof(void *) >= sizeof(uint64_t), "a node's number travels as a pointer");

/* One of the two trees. */
typedef struct {
    uint64_t seed;
    uint64_t nodes; /* if the root has 2000 children */
    routine_fn *visit, *visit_backward;
    routine_scope_fn *visit_scope;
    uint64_t (*serially)(uint64_t number), (*serially_agreeing)(uint64_t number);
} tree_t;

/* A go, join or scope failed somewhere. relaxed: read when all routines have been joined. */
static atomic_bool failed;

static void fail(void)
{
    atomic_store_explicit(&failed, true, memory_order_relaxed);
}

static uint64_t children_of_root(void)
{
    return bench_size("ROUTINES_BENCH_TREE", 2000);
}

/* The number of a node, from its parent's and which of its children it is. */
static inline uint64_t hashed(uint64_t number, int rounds)
{
    for (int i = 0; i < rounds; i++)
        number = bench_mix(number + BENCH_GOLDEN);
    return number;
}

static inline bool is_leaf(uint64_t number)
{
    return number >> 32 >= INNER;
}

/* Each of the following is there twice, with the rounds known to the compiler. */
#define INLINED static inline __attribute__((always_inline))

/* ---- go and join ---- */

/* A node: returns how many there are from here down. */
INLINED void *visit(void *arg, int rounds, bool backward, routine_fn *self)
{
    const uint64_t number = hashed((uintptr_t)arg, rounds);
    uint64_t nodes = 1;
    if (is_leaf(number))
        return (void *)(uintptr_t)nodes;
    routine_t h[CHILDREN];
    for (int i = 0; i < CHILDREN; i++)
        h[i] = go(self, (void *)(uintptr_t)(number + (uint64_t)i));
    for (int i = 0; i < CHILDREN; i++) {
        void *below = NULL;
        if (routine_join(h[backward ? CHILDREN - 1 - i : i], &below) != 0)
            fail();
        nodes += (uintptr_t)below;
    }
    return (void *)(uintptr_t)nodes;
}

static void *visit_coarse(void *arg)
{
    return visit(arg, 24, false, visit_coarse);
}

static void *visit_coarse_backward(void *arg)
{
    return visit(arg, 24, true, visit_coarse_backward);
}

static void *visit_fine(void *arg)
{
    return visit(arg, 1, false, visit_fine);
}

static void *visit_fine_backward(void *arg)
{
    return visit(arg, 1, true, visit_fine_backward);
}

/* From the root, who has a number of children of its own. */
static uint64_t search_by(routine_fn *visit_child, const tree_t *tree, uint64_t children)
{
    uint64_t nodes = 1;
    routine_t *h = malloc(children * sizeof *h);
    if (h == NULL)
        return 0;
    for (uint64_t i = 0; i < children; i++)
        h[i] = go(visit_child, (void *)(uintptr_t)((tree->seed << 32) + i));
    for (uint64_t i = 0; i < children; i++) {
        void *below = NULL;
        if (routine_join(h[i], &below) != 0)
            fail();
        nodes += (uintptr_t)below;
    }
    free(h);
    return nodes;
}

static uint64_t search(const tree_t *tree, uint64_t children)
{
    return search_by(tree->visit, tree, children);
}

static uint64_t search_backward(const tree_t *tree, uint64_t children)
{
    return search_by(tree->visit_backward, tree, children);
}

/* ---- scopes ---- */

/* A node's place in the frame of its parent: its number, and then how many there are from it down. */
INLINED int visit_scope(uint64_t *place, int rounds, routine_scope_fn *self)
{
    const uint64_t number = hashed(*place, rounds);
    uint64_t nodes = 1;
    int error = 0;
    if (!is_leaf(number)) {
        uint64_t below[CHILDREN];
        routine_scope(s);
        for (int i = 0; i < CHILDREN; i++)
            below[i] = number + (uint64_t)i;
        int rc = routine_scope_go_each(&s, self, below, CHILDREN, sizeof below[0]);
        rc |= routine_scope_join(&s, &error);
        if (rc != 0)
            fail();
        for (int i = 0; i < CHILDREN; i++)
            nodes += below[i];
    }
    *place = nodes;
    return error;
}

static int visit_scope_coarse(void *arg)
{
    return visit_scope(arg, 24, visit_scope_coarse);
}

static int visit_scope_fine(void *arg)
{
    return visit_scope(arg, 1, visit_scope_fine);
}

static uint64_t search_scope(const tree_t *tree, uint64_t children)
{
    uint64_t nodes = 1;
    uint64_t *below = malloc(children * sizeof *below);
    if (below == NULL)
        return 0;
    for (uint64_t i = 0; i < children; i++)
        below[i] = (tree->seed << 32) + i;
    {
        int error = 0;
        routine_scope(s);
        int rc = routine_scope_go_each(&s, tree->visit_scope, below, children, sizeof *below);
        rc |= routine_scope_join(&s, &error);
        if ((rc | error) != 0)
            fail();
    }
    for (uint64_t i = 0; i < children; i++)
        nodes += below[i];
    free(below);
    return nodes;
}

/* ---- the limits ---- */

/* Whoever joins what others may have taken has to agree with them, which takes one locked instruction at
 * least.
 */
static _Atomic uint64_t agreed;

static inline void agree(void)
{
    uint64_t seen = atomic_load_explicit(&agreed, memory_order_relaxed);
    if (!atomic_compare_exchange_strong(&agreed, &seen, seen + 1))
        fail();
}

/* Through a pointer, as a library has to: otherwise compilers unroll the recursion into itself. */
INLINED uint64_t serially(uint64_t number, int rounds, bool agreeing, uint64_t (*self)(uint64_t))
{
    uint64_t nodes = 1;
    number = hashed(number, rounds);
    if (is_leaf(number))
        return nodes;
    __asm__ volatile("" : "+r"(self));
    for (uint64_t i = 0; i < CHILDREN; i++) {
        if (agreeing)
            agree();
        nodes += self(number + i);
    }
    return nodes;
}

#define SERIALLY(function, rounds, agreeing)                                                                 \
    static uint64_t function(uint64_t number)                                                                \
    {                                                                                                        \
        return serially(number, rounds, agreeing, function);                                                 \
    }                                                                                                        \
    _Static_assert(1, "takes the semicolon")

SERIALLY(serially_coarse, 24, false);
SERIALLY(serially_coarse_agreeing, 24, true);
SERIALLY(serially_fine, 1, false);
SERIALLY(serially_fine_agreeing, 1, true);

static uint64_t search_serially_by(uint64_t (*visit_child)(uint64_t), const tree_t *tree, uint64_t children)
{
    uint64_t nodes = 1;
    for (uint64_t i = 0; i < children; i++)
        nodes += visit_child((tree->seed << 32) + i);
    return nodes;
}

static uint64_t search_serially(const tree_t *tree, uint64_t children)
{
    return search_serially_by(tree->serially, tree, children);
}

static uint64_t search_serially_agreeing(const tree_t *tree, uint64_t children)
{
    return search_serially_by(tree->serially_agreeing, tree, children);
}

/* ---- the cases ---- */

static const tree_t coarse = {
    1,
    3543105,
    visit_coarse,
    visit_coarse_backward,
    visit_scope_coarse,
    serially_coarse,
    serially_coarse_agreeing,
};

static const tree_t fine = {
    3, 3676273, visit_fine, visit_fine_backward, visit_scope_fine, serially_fine, serially_fine_agreeing,
};

static void run(bench_t *b, const tree_t *tree, uint64_t (*how)(const tree_t *, uint64_t))
{
    const uint64_t children = children_of_root();
    const uint64_t nodes = children == 2000 ? tree->nodes : search_serially(tree, children);
    bool wrong = false;
    atomic_store_explicit(&failed, false, memory_order_relaxed);
    bench_start(b);
    for (uint64_t i = 0; i < bench_iterations(b); i++)
        wrong |= how(tree, children) != nodes;
    bench_stop(b);
    bench_ops(b, (double)nodes);
    bench_counter(b, "nodes", (double)nodes);
    if (atomic_load_explicit(&failed, memory_order_relaxed))
        bench_fail(b, "a go, join or scope failed");
    if (wrong)
        bench_fail(b, "the wrong number of nodes");
}

#define TREE(function, tree, how, where, full_name)                                                          \
    static void function(bench_t *b)                                                                         \
    {                                                                                                        \
        run(b, tree, how);                                                                                   \
    }                                                                                                        \
    BENCH(function, .name = full_name, .on = where, .unit = BENCH_MS)

TREE(tree_routines, &coarse, search, BENCH_WORKERS, "tree/routines");
TREE(tree_backward, &coarse, search_backward, BENCH_WORKERS, "tree/routines-backward");
TREE(tree_scope, &coarse, search_scope, BENCH_WORKERS, "tree/routines-scope");
TREE(tree_limit_serial, &coarse, search_serially, BENCH_THREAD, "tree/limit-serial");
TREE(tree_limit_cas, &coarse, search_serially_agreeing, BENCH_THREAD, "tree/limit-cas");
TREE(tree_fine_routines, &fine, search, BENCH_WORKERS, "tree_fine/routines");
TREE(tree_fine_backward, &fine, search_backward, BENCH_WORKERS, "tree_fine/routines-backward");
TREE(tree_fine_scope, &fine, search_scope, BENCH_WORKERS, "tree_fine/routines-scope");
TREE(tree_fine_limit_serial, &fine, search_serially, BENCH_THREAD, "tree_fine/limit-serial");
TREE(tree_fine_limit_cas, &fine, search_serially_agreeing, BENCH_THREAD, "tree_fine/limit-cas");
