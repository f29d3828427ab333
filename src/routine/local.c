/* SPDX-License-Identifier: MIT
 *
 * Floor 5. Routine-local storage.
 *
 * Keys are slots of one table; the generation of a slot is odd while the key exists, so
 * a value set under a deleted key is not found under the next one. Values stand in an
 * array of the routine's extra, made at the first set, which nobody else touches.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "routine.h"

#define ROUNDS 4 /* of destructors, while they set new values */

static struct {
    /* written under lock, read by everybody: pairs as said there */
    _Atomic uint32_t generation;
    _Atomic(void (*)(void *)) destructor;
    _Atomic bool inherited;
} keys[ROUTINE_KEYS_MAX];

static rt_lock_t lock;

typedef struct {
    uint32_t generation; /* of the key that it was set under */
    void *value;
} local;

static bool exists(routine_key_t key)
{
    /* acquire: pairs with create */
    return key.index < ROUTINE_KEYS_MAX && key.generation % 2 == 1 &&
           atomic_load_explicit(&keys[key.index].generation, memory_order_acquire) == key.generation;
}

static int create(routine_key_t *key, void (*destructor)(void *), bool inherited)
{
    int rc = -EAGAIN;
    rt_lock_acquire(&lock);
    for (uint32_t i = 0; i < ROUTINE_KEYS_MAX && rc != 0; i++) {
        const uint32_t generation =
            atomic_load_explicit(&keys[i].generation, memory_order_relaxed); /* locked */
        if (generation % 2 == 1)
            continue;
        atomic_store_explicit(&keys[i].destructor, destructor, memory_order_relaxed); /* published by: */
        atomic_store_explicit(&keys[i].inherited, inherited, memory_order_relaxed);   /* as well */
        atomic_store_explicit(&keys[i].generation, generation + 1, memory_order_release);
        *key = (routine_key_t){i, generation + 1};
        rc = 0;
    }
    rt_lock_release(&lock);
    return rc;
}

int routine_key_create(routine_key_t *key, void (*destructor)(void *))
{
    return create(key, destructor, false);
}

int routine_key_create_inherited(routine_key_t *key)
{
    return create(key, NULL, true);
}

int routine_key_delete(routine_key_t key)
{
    int rc = -EINVAL;
    rt_lock_acquire(&lock);
    if (exists(key)) {
        atomic_store_explicit(&keys[key.index].generation, key.generation + 1, memory_order_release);
        rc = 0;
    }
    rt_lock_release(&lock);
    return rc;
}

/* Runs the destructors; the ending routine itself, or the ending plain thread. */
static void destroy(rt_block *r)
{
    rt_extra *extra = rt_local_extra(r); /* it has one */
    local *locals = extra->more->locals;
    bool again = true;
    for (int round = 0; round < ROUNDS && again; round++) {
        again = false;
        for (uint32_t i = 0; i < ROUTINE_KEYS_MAX; i++) {
            void *value = locals[i].value;
            if (!value || !exists((routine_key_t){i, locals[i].generation}))
                continue;
            locals[i].value = NULL;
            void (*fn)(void *) =
                atomic_load_explicit(&keys[i].destructor, memory_order_relaxed); /* see exists */
            if (fn) {
                fn(value);
                again = true;
            }
        }
    }
    free(locals);
    extra->more->locals = NULL;
    extra->cleanup = NULL;
}

rt_extra *rt_local_extra(rt_block *r)
{
    rt_extra *extra = atomic_load_explicit(&r->extra, memory_order_relaxed); /* own */
    if (extra)
        return extra;
    rt_block *home = rt_free_get_any();
    if (!home)
        return NULL;
    extra = (rt_extra *)(void *)((char *)home + RT_COPY_OFFSET);
    memset(extra, 0, sizeof *extra);
    r->attr.flags |= RT_FLAG_EXTRA;
    atomic_store_explicit(&r->extra, extra, memory_order_release); /* pairs with routine_name */
    return extra;
}

rt_more *rt_local_more(rt_block *r)
{
    rt_extra *extra = rt_local_extra(r);
    if (extra && !extra->more)
        extra->more = calloc(1, sizeof *extra->more);
    return extra ? extra->more : NULL;
}

/* The values of r, or NULL: it has none. */
static local *values(const rt_block *r)
{
    const rt_extra *extra = r ? atomic_load_explicit(&r->extra, memory_order_relaxed) : NULL; /* own */
    return extra && extra->more ? extra->more->locals : NULL;
}

void *routine_getspecific(routine_key_t key)
{
    const local *l = values(rt_self()->current);
    if (!l || !exists(key))
        return NULL;
    return l[key.index].generation == key.generation ? l[key.index].value : NULL;
}

static int set(rt_block *r, routine_key_t key, void *value)
{
    rt_more *more = rt_local_more(r);
    if (!more)
        return -ENOMEM;
    if (!more->locals) {
        more->locals = calloc(ROUTINE_KEYS_MAX, sizeof(local));
        if (!more->locals)
            return -ENOMEM;
        rt_local_extra(r)->cleanup = destroy;
    }
    ((local *)more->locals)[key.index] = (local){key.generation, value};
    return 0;
}

int routine_setspecific(routine_key_t key, const void *value)
{
    if (!exists(key))
        return -EINVAL;
    return set(rt_thread_here()->current, key, (void *)(uintptr_t)value); // NOLINT(performance-no-int-to-ptr)
}

/* ---- inheritance ---- */

struct rt_heritage {
    size_t count;
    struct {
        routine_key_t key;
        void *value;
    } values[];
};

static bool is_inherited(const local *values, uint32_t i)
{
    return values[i].value && exists((routine_key_t){i, values[i].generation}) &&
           atomic_load_explicit(&keys[i].inherited, memory_order_relaxed); /* as the destructor */
}

int rt_local_bequeath(const rt_block *r, rt_heritage **heritage)
{
    const local *l = values(r);
    size_t count = 0;
    *heritage = NULL;
    for (uint32_t i = 0; l && i < ROUTINE_KEYS_MAX; i++)
        count += is_inherited(l, i);
    if (count == 0)
        return 0;
    rt_heritage *h = malloc(sizeof *h + count * sizeof h->values[0]);
    if (!h)
        return -ENOMEM;
    h->count = 0;
    for (uint32_t i = 0; i < ROUTINE_KEYS_MAX && h->count < count; i++)
        if (is_inherited(l, i)) {
            h->values[h->count].key = (routine_key_t){i, l[i].generation};
            h->values[h->count++].value = l[i].value;
        }
    *heritage = h;
    return 0;
}

int rt_local_inherit(rt_block *r, rt_heritage *heritage)
{
    int rc = 0;
    for (size_t i = 0; i < heritage->count && rc == 0; i++)
        rc = set(r, heritage->values[i].key, heritage->values[i].value);
    free(heritage);
    return rc;
}

void rt_local_fork_lock(void)
{
    rt_lock_acquire(&lock);
}

void rt_local_fork_unlock(void)
{
    rt_lock_release(&lock);
}
