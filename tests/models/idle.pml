/* SPDX-License-Identifier: MIT
 *
 * src/sched/idle.{h,c}, and find_work of src/sched/scheduler.c, on x86-64 (I1 to I5).
 *
 * PUSHERS busy workers make ITEMS items each visible, on a queue of their own, by plain stores through a store
 * buffer, and tell by the rule I1; they never look back at what they pushed, which is the worst that can
 * happen. SLEEPERS idle workers look, nap, sleep, are woken and steal. Having found an item they either run it for
 * ever or come back for more. A lone item may be declined, or anything be missed by a nap; a nap may end at any
 * time. What stands under the lock is one step, since whoever reads the state without it sees one store
 * there. Sleepers store by locked instructions only. Any rester may be the one that is woken.
 *
 * Checked: when nothing moves any more and a worker sleeps, no item is visible (no wake-up was lost);
 * the counts of the state agree with what the workers are doing; whoever is woken was resting.
 *
 * Mutations, each of which must be found:
 *   NO_HEAVY      a worker that goes to sleep has no barrier between saying so and the last look
 *   NO_LAST_LOOK  it has no last look
 *   NO_I5         the last searcher to find something wakes nobody
 *   STATE_FIRST   a pusher reads the state before it publishes
 *   QUIET_MOVE    a busy worker takes back an item and makes another visible in its place without I1 (a
 *                 yield does that); with MOVE alone, it tells, and all is well
 *   LOST_PERMIT   a rester that is woken while it gives up by itself leaves the permit for its next rest
 */
#ifndef PUSHERS
#define PUSHERS 1
#endif
#ifndef SLEEPERS
#define SLEEPERS 2
#endif
#ifndef ITEMS
#define ITEMS 2
#endif
#define ROOM (ITEMS + 1)

byte pushed[PUSHERS];             /* the bottom of each queue */
byte taken[PUSHERS];              /* its top */
byte at[PUSHERS];                  /* stores of pushed under way, each one more than the last */

/* the state, as one word: read in one step */
byte searching, napping, sleeping;

#define AWAKE   0
#define NAPPING 1
#define SLEEPS  2
byte kind[SLEEPERS]; /* of who is on the list */
bool permit[SLEEPERS];

/* ghosts */
byte searchers;
byte k_;

#define VISIBLE(q) (pushed[q] > taken[q])

inline publish(p) /* rt_deque_push: into the buffer */
{
    d_step { at[p] < ROOM -> at[p]++ }
}

inline fence(p)
{
    d_step { pushed[p] = pushed[p] + at[p]; at[p] = 0 }
}

/* The lone rule's size: what the pusher itself sees of its own queue. */
#define MINE(p) (pushed[p] + at[p] - taken[p])

inline take_off(s) /* list_remove, under the lock */
{
    assert(kind[s] != AWAKE);
    if
    :: kind[s] == NAPPING -> napping--
    :: else -> sleeping--
    fi;
    kind[s] = AWAKE;
    searching++
}

/* rt_idle_wake; seen has been read. s: whom it wakes, SLEEPERS: nobody */
inline wake(lone, s)
{
    s = SLEEPERS;
    if
    :: searching > 0 || (lone && napping > 0)
    :: else ->
        atomic { /* under the lock, later */
            if
            :: searching == 0 && kind[0] != AWAKE -> s = 0
            :: searching == 0 && kind[1 % SLEEPERS] != AWAKE -> s = 1 % SLEEPERS
            :: searching == 0 && kind[2 % SLEEPERS] != AWAKE -> s = 2 % SLEEPERS
            :: searching > 0 || napping + sleeping == 0
            fi;
            if
            :: s < SLEEPERS -> take_off(s)
            :: else
            fi
        }
    fi;
    if
    :: s < SLEEPERS -> d_step { permit[s] = true; s = 0 }
    :: else -> s = 0
    fi
}

inline notify(p) /* I1, after publish; rt_notify */
{
    if
    :: atomic { searching + napping + sleeping > 0 -> lone = MINE(p) < 2 } wake(lone, s); lone = false
    :: else
    fi
}

proctype pusher(byte p)
{
    byte n, s;
    bool lone, moved;
    do
    :: n < ITEMS ->
        n++;
#ifdef STATE_FIRST
        if
        :: searching + napping + sleeping > 0 -> publish(p); lone = MINE(p) < 2; wake(lone, s); lone = false
        :: else -> publish(p)
        fi
#else
        publish(p);
        notify(p)
#endif
    :: else -> break
    od;
#if defined(MOVE) || defined(QUIET_MOVE)
    /* the running routine yields: the next one is taken out of the queue, then it goes in itself */
    d_step {
        fence(p);
        if
        :: VISIBLE(p) -> taken[p]++; moved = true
        :: else
        fi
    }
    if
    :: moved ->
        publish(p);
#ifndef QUIET_MOVE
        notify(p)
#endif
    :: else
    fi
#endif
}

/* One look at queue q. found: stolen; lone: something was there, and was left */
inline look(q)
{
    if
    :: found || !VISIBLE(q)
    :: atomic { !found && VISIBLE(q) -> taken[q]++; found = true } /* by compare-and-swap */
    :: !found && pushed[q] == taken[q] + 1 -> lone = true
    fi
}

inline come_back(me)
{
    atomic {
        if
        :: kind[me] != AWAKE -> take_off(me); woken = false
        :: else -> woken = true
        fi
    }
#ifndef LOST_PERMIT
    if
    :: woken -> permit[me]
    :: else
    fi
#endif
}

inline rest(me, how)
{
    assert(kind[me] == AWAKE);
    searching--;
    permit[me] = false;
    kind[me] = how;
    if
    :: how == NAPPING -> napping++
    :: else -> sleeping++
    fi
}

proctype sleeper(byte me)
{
    byte s;
    bool found, lone, woken, last;
begin:
    atomic { searching++; searchers++ } /* rt_idle_search */
    do
    :: true ->
        look(0);
#if PUSHERS > 1
        look(1);
#endif
        if
        :: found -> break
        :: else
        fi;
        if
        :: true -> /* lone, or others made progress */
            atomic { lone = false; rest(me, NAPPING) }
            skip; /* any time goes by, or the permit comes */
            come_back(me)
        :: !lone ->
            atomic { rest(me, SLEEPS) } /* rt_idle_announce */
#ifndef NO_HEAVY
            fence(0);
#if PUSHERS > 1
            fence(1);
#endif
#endif
#ifndef NO_LAST_LOOK
            s = pushed[0]; /* rt_deque_size */
            last = s > taken[0];
#if PUSHERS > 1
            s = pushed[1];
            last = last || s > taken[1];
#endif
            s = 0;
#endif
            if
            :: last -> last = false; come_back(me) /* rt_idle_withdraw */
            :: else ->
endsleep:
                permit[me];
                assert(kind[me] == AWAKE)
            fi
        fi;
        woken = false
    od;
    /* rt_idle_found */
    atomic {
        assert(searching > 0);
        lone = searching == 1 && sleeping > 0;
        searching--;
        searchers--;
        found = false
    }
#ifndef NO_I5
    if
    :: lone -> lone = false; wake(false, s)
    :: else
    fi;
#endif
    lone = false;
    if
    :: true -> goto begin /* the item was a short one */
    :: true               /* a long one: for ever */
    fi
}

proctype memory()
{
end:
    do
    :: atomic { at[0] > 0 -> at[0]--; pushed[0]++ }
#if PUSHERS > 1
    :: atomic { at[1] > 0 -> at[1]--; pushed[1]++ }
#endif
    od
}

/* When nothing else can move. */
proctype judge()
{
end:
    timeout;
    d_step {
        assert(sleeping == 0 || !VISIBLE(0));
#if PUSHERS > 1
        assert(sleeping == 0 || !VISIBLE(1));
#endif
        assert(searching == 0 && napping == 0);
        assert(searchers == sleeping)
    }
}

init
{
    byte i;
    atomic {
        do
        :: i < PUSHERS -> run pusher(i); i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < SLEEPERS -> run sleeper(i); i++
        :: else -> break
        od;
        i = 0;
        run memory();
        run judge()
    }
}
