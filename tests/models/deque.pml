/* SPDX-License-Identifier: MIT
 *
 * src/sched/deque.{h,c} on x86-64: one owner, two thieves. The owner's stores go through a store buffer and
 * reach memory later, in their order; a locked instruction empties it first. The thieves store by
 * locked instructions only, so they need no buffer.
 *
 * The owner pushes, takes (rt_deque_take) and joins (routine_join in src/routine/join.c: announcement by a plain
 * store, the claim as its barrier, settlement), in every order. An item is an incarnation of a block: whoever takes its
 * entry out or has its handle starts it only by winning its word (R1).
 *
 * Checked: every entry is taken out exactly once, every item started exactly once and with what its
 * spawner wrote in view, and the deque is empty in the end.
 *
 * Mutations, each of which must be found:
 *   NO_BARRIER_TAKE   take lowers bottom by a plain store
 *   NO_BARRIER_JOIN   join reads top before the claim, so no barrier stands between
 *   NO_CAS_LAST       the owner takes the last item by a plain store of top
 *   STEAL_BACKWARDS   a thief reads bottom before top
 *   CLAIM_NO_CAS      an entry's item is started after a mere look at its word
 *   SLOT_LATE         push raises bottom before it writes the slot
 */
#define ITEMS  3
#define STEALS 2 /* attempts of each thief */
#define ROOM   4 /* stores in the buffer */

/* the memory */
#define TOP     0
#define BOTTOM  1
#define SLOT(i) (2 + (i)) /* of index i; indices begin at 1, as in rt_deque_init */
#define WORD(i) (2 + ITEMS + 2 + (i))
#define CELLS   (2 + ITEMS + 2 + ITEMS + 1)
byte mem[CELLS];

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

/* rt_deque_take_settle: top is read into t already. won says whether the entry is the owner's. */
inline settle(b, t, won)
{
    won = false;
    if
    :: t < b -> won = true
    :: else ->
        if
        :: t == b ->
#ifdef NO_CAS_LAST
            won = true;
            store(TOP, t + 1);
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
        store(BOTTOM, b + 1)
    fi
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
    byte pushed, joined, b, t, item, w;
    bool won, more = true;
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
            load(SLOT(b), t); /* rt_deque_is_newest */
            load(WORD(item), w)
        }
        if
        :: t == item && w == UNSTARTED ->
            store(BOTTOM, b); /* rt_deque_take_announce */
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
                settle(b, t, won);
                if
                :: won -> take_out(item)
                :: else /* a tombstone, or on its way to a thief */
                fi
            :: else -> store(BOTTOM, b + 1) /* rt_deque_take_abandon */
            fi
        :: else -> /* the slow way: started by its handle, the entry stays behind */
            d_step {
                drain();
                if
                :: mem[WORD(item)] == UNSTARTED -> mem[WORD(item)] = STARTED; start(item)
                :: else
                fi
            }
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
#ifdef NO_BARRIER_TAKE
            store(BOTTOM, b);
#else
            d_step { drain(); mem[BOTTOM] = b }
#endif
            load(SLOT(b), item);
            load(TOP, t);
            settle(b, t, won);
            if
            :: won -> take_out(item); claim(item, 1)
            :: else
            fi
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
        assert(mem[TOP] == mem[BOTTOM]);
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
