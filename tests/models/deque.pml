/* SPDX-License-Identifier: MIT
 *
 * src/sched/deque.{h,c} on x86-64: one owner, two thieves. The owner's stores go through a store buffer and
 * reach memory later, in their order; a locked instruction empties it first. The thieves store by
 * locked instructions only, so they need no buffer. A membarrier(2) of theirs empties the owner's.
 *
 * The owner pushes, takes (rt_deque_take), takes the oldest (rt_deque_take_oldest) and joins (routine_join
 * in src/routine/join.c: between rt_deque_take_begin and _end the claim, a locked instruction), in every order. An
 * item is an incarnation of a block: whoever takes its entry out or has its handle starts it only by winning its
 * word (R1).
 *
 * Checked: every entry is taken out exactly once, every item started exactly once and with what its
 * spawner wrote in view, and the deque is empty in the end.
 *
 * Mutations, each of which must be found:
 *   NO_HEAVY          a thief has no barrier between counting itself and looking whether the owner is in (D6)
 *   THIEF_LOOKS_FIRST it has the barrier before it counts itself
 *   OWNER_LOOKS_FIRST the owner looks for thieves before it says that it is in
 *   NO_OWNER_IN       a thief does not look whether the owner is in
 *   NO_BARRIER_TAKE   take, having seen thieves, lowers bottom by a plain store and reads top at once (D3)
 *   NO_BARRIER_JOIN   join, likewise, reads top before the claim
 *   NO_CAS_LAST       the owner, having seen thieves, takes the last item by a plain store of top (D4)
 *   STEAL_BACKWARDS   a thief reads bottom before top
 *   CLAIM_NO_CAS      an entry's item is started after a mere look at its word
 *   SLOT_LATE         push raises bottom before it writes the slot
 *   REMOVE_BLIND      an entry is taken out of the middle without a look for thieves (D7)
 * FALLBACK: there is no membarrier; the owner's light barrier is a full one (and must hold too). With it:
 *   LIGHT_FALLBACK    it is not
 */
#ifndef ITEMS
#define ITEMS 2
#endif
#ifndef STEALS
#define STEALS 2 /* attempts of each thief */
#endif
#define ROOM   6 /* stores in the buffer */

/* the memory */
#define TOP     0
#define BOTTOM  1
#define SLOT(i) (2 + (i)) /* of index i; indices begin at 1, as in rt_deque_init */
#define WORD(i) (2 + ITEMS + 2 + (i))
#define OWNER_IN (2 + ITEMS + 2 + ITEMS + 1)
#define CELLS    (OWNER_IN + 1)
byte mem[CELLS];

byte thieves; /* how many are counted in: changed by locked instructions only */

/* of an item's word */
#define FREE      0
#define UNSTARTED 1
#define STARTED   2

/* the owner's store buffer: place and value */
byte at[ROOM], val[ROOM], stores;

byte started[ITEMS + 1], removed[ITEMS + 1]; /* what is checked */
bool closed;                                  /* the owner is through */
byte thieves_done;
byte k_;

inline commit_one()
{
    mem[at[0]] = val[0];
    stores--;
    k_ = 0;
    do
    :: k_ < stores -> at[k_] = at[k_ + 1]; val[k_] = val[k_ + 1]; k_++
    :: else -> at[k_] = 0; val[k_] = 0; break
    od;
    k_ = 0
}

inline drain() /* inside a step: what a locked instruction begins with */
{
    do
    :: stores > 0 -> commit_one()
    :: else -> break
    od
}

inline store(a, v)
{
    d_step { stores < ROOM -> at[stores] = a; val[stores] = v; stores++ }
}

inline load(a, x) /* the owner's: its own newest store to a, or memory */
{
    d_step {
        x = mem[a];
        k_ = 0;
        do
        :: k_ < stores ->
            if
            :: at[k_] == a -> x = val[k_]
            :: else
            fi;
            k_++
        :: else -> break
        od;
        k_ = 0
    }
}

inline take_out(i)
{
    removed[i]++;
    assert(removed[i] == 1)
}

inline start(i)
{
    started[i]++;
    assert(started[i] == 1)
}

/* rt_deque_take_begin: alone, b */
inline take_begin()
{
#ifdef OWNER_LOOKS_FIRST
    alone = thieves == 0;
    store(OWNER_IN, 1);
#else
    store(OWNER_IN, 1);
#if defined(FALLBACK) && !defined(LIGHT_FALLBACK)
    d_step { drain(); skip }
#endif
    alone = thieves == 0;
#endif
    load(BOTTOM, b);
    b--;
    store(BOTTOM, b)
}

inline take_abandon()
{
    store(BOTTOM, b + 1);
    store(OWNER_IN, 0)
}

/* rt_deque_take_end; top is read into t already. won says whether the entry is the owner's. */
inline take_end()
{
    if
    :: alone ->
        won = t <= b;
        if
        :: won
        :: else -> store(BOTTOM, b + 1)
        fi
    :: else -> /* rt_deque_take_settle */
        won = t < b;
        if
        :: t == b ->
#ifdef NO_CAS_LAST
            won = true;
            store(TOP, t + 1)
#else
            d_step {
                drain();
                if
                :: mem[TOP] == t -> mem[TOP] = t + 1; won = true
                :: else
                fi
            }
#endif
        :: else
        fi;
        if
        :: t >= b -> store(BOTTOM, b + 1)
        :: else
        fi
    fi;
    store(OWNER_IN, 0)
}

/* claim in scheduler.c; drop, where it fails, is the taking out itself. Whoever: 1 the owner */
inline claim(i, whoever)
{
#ifdef CLAIM_NO_CAS
    if
    :: mem[WORD(i)] != STARTED -> d_step { mem[WORD(i)] = STARTED; start(i) }
    :: else
    fi
#else
    d_step {
        if
        :: whoever -> drain()
        :: else
        fi;
        assert(mem[WORD(i)] != FREE); /* D1: what the spawner wrote is in view */
        if
        :: mem[WORD(i)] == UNSTARTED -> mem[WORD(i)] = STARTED; start(i)
        :: else
        fi
    }
#endif
}

proctype owner()
{
    byte pushed, joined, b, t, item, w, at_i;
    bool won, alone, oldest, more = true;
    do
    :: more && pushed < ITEMS -> /* spawn, rt_deque_push */
        atomic { /* nothing of this is seen before it leaves the buffer */
            pushed++;
            store(WORD(pushed), UNSTARTED);
            load(BOTTOM, b);
#ifdef SLOT_LATE
            store(BOTTOM, b + 1);
            store(SLOT(b), pushed);
#else
            store(SLOT(b), pushed);
            store(BOTTOM, b + 1);
#endif
            b = 0
        }
    :: more && joined < pushed -> /* join */
        atomic {
            joined++;
            if
            :: item = pushed
            :: pushed > 1 -> item = pushed - 1
            fi;
            load(BOTTOM, b);
            b--;
            load(SLOT(b), t) /* rt_deque_is_newest */
        }
        if
        :: t == item ->
            take_begin();
#ifdef NO_BARRIER_JOIN
            load(TOP, t);
#endif
            d_step {
                drain();
                w = mem[WORD(item)];
                if
                :: w == UNSTARTED -> mem[WORD(item)] = STARTED; start(item)
                :: else
                fi
            }
            if
            :: w == UNSTARTED ->
#ifndef NO_BARRIER_JOIN
                load(TOP, t);
#endif
                take_end();
                if
                :: won -> take_out(item)
                :: else /* a tombstone, or on its way to a thief */
                fi
            :: else -> take_abandon()
            fi
        :: else -> /* started by its handle; the entry is taken out if no thief is near, or stays behind */
            d_step {
                drain();
                won = mem[WORD(item)] == UNSTARTED;
                if
                :: won -> mem[WORD(item)] = STARTED; start(item)
                :: else
                fi
            }
            if
            :: won -> /* rt_deque_remove; D7 */
                store(OWNER_IN, 1);
#if defined(FALLBACK) && !defined(LIGHT_FALLBACK)
                d_step { drain(); skip }
#endif
#ifdef REMOVE_BLIND
                alone = true;
#else
                alone = thieves == 0;
#endif
                if
                :: alone ->
                    load(TOP, t);
                    load(BOTTOM, b);
                    if
                    :: t < b ->
                        load(SLOT(t), w);
                        if
                        :: w == item -> store(TOP, t + 1); take_out(item)
                        :: else ->
                            b--;
                            at_i = b;
                            do
                            :: at_i > t ->
                                load(SLOT(at_i), w);
                                if
                                :: w == item ->
                                    load(SLOT(b), w);
                                    store(SLOT(at_i), w);
                                    store(BOTTOM, b);
                                    take_out(item);
                                    break
                                :: else -> at_i--
                                fi
                            :: else -> break
                            od;
                            at_i = 0
                        fi
                    :: else
                    fi
                :: else
                fi;
                store(OWNER_IN, 0)
            :: else
            fi
        fi;
        b = 0; t = 0; w = 0; item = 0; won = false
    :: pushed > 0 -> /* rt_deque_take; when all is done until it says that nothing is left */
        load(BOTTOM, b);
        b--;
        load(TOP, t);
        if
        :: b < t ->
            if
            :: !more -> break
            :: else
            fi
        :: else ->
            take_begin();
#ifndef NO_BARRIER_TAKE
            if
            :: alone
            :: else -> d_step { drain(); skip } /* an exchange of bottom for the same */
            fi;
#endif
            load(SLOT(b), item);
            load(TOP, t);
            take_end();
            if
            :: won -> take_out(item); claim(item, 1)
            :: else
            fi
        fi;
        b = 0; t = 0; item = 0; won = false
    :: more && pushed > 0 && !oldest -> /* rt_deque_take_oldest, once */
        oldest = true;
        load(TOP, t);
        load(BOTTOM, b);
        if
        :: t < b ->
            load(SLOT(t), item);
            d_step {
                drain();
                won = mem[TOP] == t;
                if
                :: won -> mem[TOP] = t + 1
                :: else
                fi
            }
            if
            :: won -> take_out(item); claim(item, 1)
            :: else
            fi
        :: else
        fi;
        b = 0; t = 0; item = 0; won = false
    :: more && pushed == ITEMS -> more = false
    od;
    skip;
    d_step { drain(); closed = true }
}

proctype thief()
{
    byte tries, t, b, item;
    bool won;
    do
    :: tries < STEALS ->
        tries++;
#ifdef THIEF_LOOKS_FIRST
        d_step { drain(); skip }
        thieves++;
#else
        thieves++;
#ifndef NO_HEAVY
#ifndef FALLBACK
        d_step { drain(); skip } /* the owner's: membarrier */
#endif
#endif
#endif
#ifndef NO_OWNER_IN
        if
        :: !mem[OWNER_IN]         /* it looks several times */
        :: mem[OWNER_IN] -> goto out
        fi;
#endif
again:
#ifdef STEAL_BACKWARDS
        b = mem[BOTTOM];
        t = mem[TOP];
#else
        t = mem[TOP];
        b = mem[BOTTOM];
#endif
        if
        :: t < b ->
            item = mem[SLOT(t)];
            d_step {
                won = mem[TOP] == t;
                if
                :: won -> mem[TOP] = t + 1
                :: else
                fi
            }
            if
            :: won -> assert(item > 0); take_out(item); claim(item, 0)
            :: else
            fi
        :: else
        fi;
        if
        :: won && tries < STEALS -> tries++; won = false; goto again /* it has not left (rt_deque_enter) */
        :: true
        fi;
out:
        thieves--;
        b = 0; t = 0; item = 0; won = false
    :: closed || tries == STEALS -> break
    od;
    thieves_done++
}

proctype memory()
{
end:
    do
    :: atomic { stores > 0 -> commit_one() }
    od
}

proctype judge()
{
    byte i;
    closed && thieves_done == 2;
    d_step {
        assert(stores == 0);
        assert(mem[TOP] == mem[BOTTOM] && !mem[OWNER_IN] && thieves == 0);
        i = 1;
        do
        :: i <= ITEMS -> assert(removed[i] == 1); assert(started[i] == 1); i++
        :: else -> break
        od
    }
}

init
{
    atomic {
        mem[TOP] = 1;
        mem[BOTTOM] = 1;
        run owner();
        run thief();
        run thief();
        run memory();
        run judge()
    }
}
