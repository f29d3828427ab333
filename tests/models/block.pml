/* SPDX-License-Identifier: MIT
 *
 * The life of one control block through INCARNATIONS incarnations (src/sched/block.h; claim, drop and
 * rt_release in src/sched/scheduler.c; src/routine/join.c, run.c, go.c), on x86-64.
 *
 * Two workers. The block begins on the free list of the first; whoever recycles it has it on its own
 * list, and makes the next incarnation of it, whose entry stands in that worker's deque. What is stored
 * without a locked instruction (the fields and the word by go, the word by recycling, the push) goes through a
 * store buffer. The maker uses the handle: it joins, by the short way or by the long one, or detaches, or started it
 * detached. The other worker steals, and may join as well. A third party, without a worker, has the handles too, also old ones, and
 * cancels, joins, tries to join and detaches. The deque itself is checked by deque.pml: here taking the entry out is one step.
 *
 * Checked: an incarnation runs once, or ends once as cancelled; it is recycled once, after its execution, the use of its
 * handle and its entry are over, and by the end it has been; what changes the word finds the incarnation it
 * means; a finished one is not called unfinished; a handle is used by one party; nobody waits for ever.
 *
 * Mutations, each of which must be found:
 *   RELEASE_BLIND    the last use recycles although the entry still stands in a deque
 *   RELEASE_TORN     RELEASED is set by a load and a store
 *   DROP_TORN        ENTRY is cleared by a load and a store
 *   START_TORN       an entry's routine is started after a mere look at the word
 *   DETACH_TORN      a detach looks at the oneshot and then closes it
 *   NO_ID            a handle's claim does not compare the incarnation
 *   NO_CLAIMED       a handle's claim does not look for CLAIMED
 *   BLANK_BACKWARDS  a block is blanked state first, then word
 *   SETTLE_IGNORED   a join by the short way recycles without asking whether it got the entry
 *
 * TWO_RUNTIMES: the workers belong to different ones, so that neither steals from the other, and a child is run in place only
 * by a worker of its own (R14). Mutation:
 *   RUNTIME_UNCHECKED  the short way runs in place whatever it has won: an empty deque may still show an old
 *                      pointer to the block as its newest item
 */
#ifndef INCARNATIONS
#define INCARNATIONS 2
#endif
#ifndef WISHES
#define WISHES 2 /* calls of the third party */
#endif

#define ENTRY    1
#define STARTED  2
#define CANCEL   4
#define CLAIMED  8
#define DETACHED 16
#define RELEASED 32
#define FLAGS    6
#define ID(w)    ((w) >> FLAGS)

/* of the oneshot */
#define EMPTY  0
#define WAITED 1
#define FULL   2
#define CLOSED 3

/* the memory; what DEQUE holds is 0 or 1 + the worker in whose deque the entry stands */
#define WORD  0
#define STATE 1
#define DEQUE 2
#define KNOWN 3 /* the newest handle that others have */
#define CELLS 4
byte mem[CELLS];

/* The order in which rt_block_blank clears them. */
#ifdef BLANK_BACKWARDS
#define FIRST  STATE
#define SECOND WORD
#else
#define FIRST  WORD
#define SECOND STATE
#endif

#define ROOM 10
byte at[2 * ROOM], val[2 * ROOM], stores[2];

byte list = 1;   /* 1 + the worker on whose free list the block is */
byte made;       /* incarnations */
byte home;       /* the worker that made it: its runtime */
bool to_run;     /* it is in a ready list, claimed */
bool woken;      /* the waiter was readied */

#ifdef TWO_RUNTIMES
#define AT_HOME(p) (home == (p))
#else
#define AT_HOME(p) true
#endif

/* ghosts, of the incarnation that is */
bool executed, executing, used, entry_out, recycled = true;
bool closing; /* a detach is between its claim and its settlement */
byte done;
byte finished; /* bit by incarnation: its result is there */
byte k_;

inline commit_one(p)
{
    mem[at[p * ROOM]] = val[p * ROOM];
    stores[p]--;
    k_ = 0;
    do
    :: k_ < stores[p] ->
        at[p * ROOM + k_] = at[p * ROOM + k_ + 1];
        val[p * ROOM + k_] = val[p * ROOM + k_ + 1];
        k_++
    :: else -> at[p * ROOM + k_] = 0; val[p * ROOM + k_] = 0; break
    od;
    k_ = 0
}

/* p: 0 and 1 are the workers, 2 the third party, who never stores without a lock */
inline drain(p)
{
    if
    :: p < 2 ->
        do
        :: stores[p % 2] > 0 -> commit_one((p % 2))
        :: else -> break
        od
    :: else
    fi
}

inline store(p, a, v)
{
    d_step { stores[p] < ROOM - 1 -> at[p * ROOM + stores[p]] = a; val[p * ROOM + stores[p]] = v; stores[p]++ }
}

inline load(p, a, x)
{
    d_step {
        x = mem[a];
        k_ = 0;
        do
        :: p < 2 && k_ < stores[p % 2] ->
            if
            :: at[(p % 2) * ROOM + k_] == a -> x = val[(p % 2) * ROOM + k_]
            :: else
            fi;
            k_++
        :: else -> break
        od;
        k_ = 0
    }
}

/* won: it was as expected. */
inline cas(p, a, expected, wanted, won)
{
    d_step {
        drain(p);
        won = mem[a] == expected;
        if
        :: won -> mem[a] = wanted
        :: else
        fi
    }
}

/* The word's, by who means incarnation `mine`. A claim must find it alive. A cancel may come after its end, but is
 * void then: the store that ends it is still under way, and covers it. */
inline cas_word(p, mine, expected, wanted, won, is_claim)
{
    d_step {
        drain(p);
        won = mem[WORD] == expected;
        if
        :: won ->
            assert((mine == made && !recycled) || (!is_claim && stores[0] + stores[1] > 0));
            mem[WORD] = wanted
        :: else
        fi
    }
}

/* ---- the end of it ---- */

inline recycle(p)
{
    d_step {
        assert(executed && used && entry_out && !recycled && !closing && !executing);
        recycled = true;
        done++;
        assert(stores[p] < ROOM - 2);
        at[p * ROOM + stores[p]] = FIRST; /* the stores of rt_block_blank */
        val[p * ROOM + stores[p]] = 0;
        stores[p]++;
        at[p * ROOM + stores[p]] = SECOND;
        val[p * ROOM + stores[p]] = 0;
        stores[p]++;
        list = 1 + p
    }
}

/* By the third party: rt_block_put, under a lock. */
inline recycle_outside()
{
    d_step {
        assert(executed && used && entry_out && !recycled && !closing && !executing);
        recycled = true;
        done++;
        mem[WORD] = 0;
        mem[STATE] = EMPTY;
        list = 1
    }
}

/* rt_release */
inline release(p, w)
{
    load(p, WORD, w);
#ifdef RELEASE_BLIND
    w = 0;
#endif
    if
    :: w & ENTRY ->
#ifdef RELEASE_TORN
        load(p, WORD, w);
        d_step { drain(p); mem[WORD] = w | RELEASED }
#else
        d_step {
            drain(p);
            assert(!recycled);
            w = mem[WORD];
            mem[WORD] = w | RELEASED
        }
#endif
    :: else
    fi;
    if
    :: w & ENTRY
    :: else ->
        if
        :: p < 2 -> recycle(p % 2)
        :: else -> recycle_outside()
        fi
    fi;
    w = 0
}

/* drop: the entry is out of the deque */
inline drop(p, w)
{
    load(p, WORD, w);
    if
    :: !(w & RELEASED) ->
#ifdef DROP_TORN
        d_step { drain(p); mem[WORD] = w & (255 - ENTRY) }
#else
        d_step {
            drain(p);
            assert(!recycled);
            w = mem[WORD];
            mem[WORD] = w & (255 - ENTRY)
        }
#endif
    :: else
    fi;
    if
    :: w & RELEASED -> recycle(p)
    :: else
    fi;
    w = 0
}

/* ---- running ---- */

inline finish(p, w) /* run.c */
{
    d_step { executing = false; executed = true }
    d_step {
        drain(p);
        w = mem[STATE];
        assert(w != FULL);
        mem[STATE] = FULL;
        finished = finished | (1 << made)
    }
    if
    :: w == WAITED -> w = 0; woken = true /* rt_ready_block */
    :: w == CLOSED -> d_step { used = true; w = 0 } release(p, w)
    :: else -> w = 0
    fi
}

inline begin_run()
{
    d_step {
        assert(!executing && !executed && !recycled);
        executing = true
    }
}

inline run_on_a_stack(p, w)
{
    begin_run();
    load(p, WORD, w); /* R4: CANCEL ends it at once; for what is checked here it is the same */
    finish(p, w)
}

/* claim in scheduler.c; the entry was just taken out */
inline start(p, w, x)
{
    load(p, WORD, w);
    assert(ID(w) == made && !recycled);
    do
    :: w & STARTED -> drop(p, w); break
    :: else ->
#ifdef START_TORN
        d_step { drain(p); mem[WORD] = (w | STARTED) & (255 - ENTRY) }
        x = true;
#else
        cas_word(p, made, w, (w | STARTED) & (255 - ENTRY), x, true);
#endif
        if
        :: x -> x = false; w = 0; run_on_a_stack(p, w); break
        :: else -> load(p, WORD, w)
        fi
    od;
    w = 0
}

/* The own deque, or another's: the entry comes out in one step, if it is in there to be seen. */
inline take_entry(p, x)
{
    d_step {
        drain(p);
        x = mem[DEQUE] != 0;
        if
        :: x -> mem[DEQUE] = 0; entry_out = true
        :: else
        fi
    }
}

/* What a worker does that has nothing else to do: one thing. */
inline work(p, w, x)
{
    if
    :: mem[DEQUE] != 0 && AT_HOME(p) -> /* deque_pick, steal_from */
        take_entry(p, x);
        if
        :: x -> x = false; start(p, w, x)
        :: else
        fi
    :: atomic { to_run && AT_HOME(p) -> to_run = false } run_on_a_stack(p, w)
    fi
}

/* ---- the handle ---- */

/* claim_handle. flags: what to set; rc: 0 won, 1 lost; w: the word as it was */
inline claim_handle(p, id, flags, w, x, rc)
{
    load(p, WORD, w);
    do
#ifdef NO_ID
    :: w & (DETACHED | RELEASED) -> rc = 1; break
#else
    :: ID(w) != id || (w & (DETACHED | RELEASED)) -> rc = 1; break
#endif
#ifndef NO_CLAIMED
    :: ID(w) == id && (w & CLAIMED) && !(w & (DETACHED | RELEASED)) -> rc = 1; break
    :: ID(w) == id && !(w & (CLAIMED | DETACHED | RELEASED)) ->
#else
    :: ID(w) == id && !(w & (DETACHED | RELEASED)) ->
#endif
        cas_word(p, id, w, w | flags, x, true); /* R3 */
        if
        :: x ->
            x = false;
            rc = 0;
            break
        :: else -> load(p, WORD, w)
        fi
#ifdef NO_ID
    :: ID(w) != id && !(w & (DETACHED | RELEASED | CLAIMED)) ->
        cas_word(p, id, w, w | flags, x, true);
        if
        :: x -> x = false
        :: else -> load(p, WORD, w)
        fi
#endif
    od
}

/* enter, in the commit of a park; then until it was readied. x: it waits */
inline wait_outside(w, x)
{
    cas(2, STATE, EMPTY, WAITED, x);
    if
    :: x -> x = false; atomic { woken -> woken = false }
    :: else
    fi;
    assert(mem[STATE] == FULL);
    d_step { assert(!used); used = true }
    release(2, w)
}

/* The same of a worker, which meanwhile does other things: the second half is in its loop. */
inline wait_here(p, x)
{
    cas(p, STATE, EMPTY, WAITED, x);
    waiting = true;
    if
    :: x -> x = false
    :: else -> woken = true /* it is not to wait after all */
    fi
}

inline run_in_place(p)
{
    assert(AT_HOME(p)); /* R14 */
    begin_run();
    d_step { assert(!used); executing = false; executed = true; used = true }
}

inline detach(p, id, w, x, rc)
{
    claim_handle(p, id, CLAIMED | DETACHED, w, x, rc);
    if
    :: rc == 0 ->
        closing = true;
#ifdef DETACH_TORN
        load(p, STATE, w);
        x = w == EMPTY;
        d_step {
            drain(p);
            closing = false;
            if
            :: x -> mem[STATE] = CLOSED
            :: else
            fi
        }
#else
        d_step {
            drain(p);
            closing = false;
            x = mem[STATE] == EMPTY;
            if
            :: x -> mem[STATE] = CLOSED
            :: else
            fi
        }
#endif
        if
        :: x -> x = false
        :: else -> d_step { assert(!used); used = true } release(p, w)
        fi
    :: else
    fi;
    w = 0;
    rc = 0
}

inline join(p, id, w, x, rc)
{
    /* the short way */
    load(p, DEQUE, w);
    if
    :: x = w == 1 + p
    :: x = true /* rt_deque_is_newest looks at an old pointer in an empty deque */
    fi;
    load(p, WORD, w);
    x = x && w == (id << FLAGS | ENTRY);
    if
    :: x -> cas_word(p, id, w, w | STARTED | CLAIMED, x, true)
    :: else
    fi;
    if
    :: x ->
        d_step { /* rt_deque_take_settle */
            w = 0;
            x = mem[DEQUE] == 1 + p;
            if
            :: x -> mem[DEQUE] = 0; entry_out = true
            :: else
            fi
        }
#ifdef SETTLE_IGNORED
        x = true;
#endif
        rc = 2
    :: else -> /* the long way */
        if
        :: AT_HOME(p) -> claim_handle(p, id, CLAIMED | STARTED, w, x, rc)
        :: else -> claim_handle(p, id, CLAIMED, w, x, rc)
        fi;
        if
        :: rc == 0 && (w & STARTED || !AT_HOME(p)) -> wait_here(p, x)
        :: rc == 0 && !(w & STARTED) && AT_HOME(p) -> rc = 2
        :: else
        fi
    fi;
    w = 0;
    if
    :: rc == 2 && /* it has claimed the routine; x: and has taken out its entry, else that stays behind */
#ifndef RUNTIME_UNCHECKED
        AT_HOME(p)
#else
        true
#endif
        ->
        run_in_place(p);
        if
        :: x -> x = false; recycle(p)
        :: else -> release(p, w)
        fi
    :: rc == 2 -> /* no room, or of another runtime: on a stack of its own, by whoever comes first */
        if
        :: x -> d_step { mem[WORD] = mem[WORD] & (255 - ENTRY); x = false }
        :: else
        fi;
        to_run = true;
        wait_here(p, x)
    :: else
    fi;
    rc = 0
}

/* ---- who does it ---- */

proctype worker(byte me)
{
    byte w, id, rc;
    bool x, detached, joined, to_join, waiting;
    do
    :: atomic { !waiting && !to_join && list == 1 + me && made < INCARNATIONS && stores[1 - me] == 0 -> /* free lists change hands under a lock */
        list = 0;
        made++;
        home = me;
        id = made;
        executed = false;
        used = false;
        entry_out = false;
        recycled = false }
        if
        :: detached = true
        :: detached = false
        fi;
        atomic { /* spawn: seen by nobody before it leaves the buffer */
            if
            :: detached ->
                store(me, STATE, CLOSED);
                store(me, WORD, id << FLAGS | ENTRY | CLAIMED | DETACHED)
            :: else -> store(me, WORD, id << FLAGS | ENTRY) /* the state is blank */
            fi;
            store(me, DEQUE, 1 + me);
            store(me, KNOWN, id)
        }
        if
        :: detached -> id = 0
        :: !detached -> to_join = true
        :: !detached -> detach(me, id, w, x, rc); id = 0
        fi;
        detached = false
    :: atomic { !waiting && !to_join && !joined && mem[KNOWN] > 0 -> /* a handle that it was given */
            joined = true;
            to_join = true;
            id = mem[KNOWN]
        }
    :: to_join -> to_join = false; join(me, id, w, x, rc); id = 0
    :: atomic { waiting && woken -> woken = false; waiting = false } /* take_result */
        load(me, STATE, w);
        assert(w == FULL);
        d_step { assert(!used); used = true; w = 0 }
        release(me, w)
    :: work(me, w, x)
    :: atomic { done == INCARNATIONS && !waiting && !to_join -> break }
    od
}

proctype third()
{
    byte n, w, id, rc;
    bool x;
    do
    :: atomic { n < WISHES && mem[KNOWN] > 0 -> /* any handle there has been */
            n++;
            if
            :: id = mem[KNOWN]
            :: mem[KNOWN] > 1 -> id = 1
            fi
        }
        if
        :: true -> /* routine_cancel */
            load(2, WORD, w);
            do
            :: ID(w) != id || (w & (RELEASED | CANCEL)) -> break
            :: else ->
                cas_word(2, id, w, w | CANCEL, x, false);
                if
                :: x -> x = false; break
                :: else -> load(2, WORD, w)
                fi
            od
        :: true -> /* routine_is_finished: what was before is found so */
            rc = finished >> id & 1;
            load(2, WORD, w);
            if
            :: ID(w) == id && !(w & RELEASED) ->
                load(2, STATE, w);
                if
                :: w != FULL ->
                    load(2, WORD, w);
                    assert(!rc || ID(w) != id || (w & RELEASED))
                :: else
                fi
            :: else
            fi
        :: true -> /* routine_join */
            claim_handle(2, id, CLAIMED, w, x, rc);
            if
            :: rc == 0 -> w = 0; wait_outside(w, x)
            :: else
            fi
        :: true -> detach(2, id, w, x, rc)
        :: true -> /* routine_try_join */
            load(2, WORD, w);
            if
            :: ID(w) != id || (w & (DETACHED | RELEASED | CLAIMED))
            :: else ->
                load(2, STATE, w);
                if
                :: w == FULL ->
                    claim_handle(2, id, CLAIMED, w, x, rc);
                    if
                    :: rc == 0 -> d_step { assert(!used); used = true; w = 0 } release(2, w)
                    :: else
                    fi
                :: else
                fi
            fi
        fi;
        w = 0; id = 0; rc = 0; x = false
    :: atomic { done == INCARNATIONS -> break }
    od
}

proctype memory()
{
end:
    do
    :: atomic { stores[0] > 0 -> commit_one(0) }
    :: atomic { stores[1] > 0 -> commit_one(1) }
    od
}

/* Nothing is left over: a worker that waits for ever is no valid end. */
init
{
    atomic {
        run worker(0);
        run worker(1);
        run third();
        run memory()
    }
}
