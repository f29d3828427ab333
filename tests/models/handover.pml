/* SPDX-License-Identifier: MIT
 *
 * The hand-over of a worker: src/sched/monitor.{h,c}, rt_enter and rt_leave (scheduler.h), and threads.c, on x86-64
 * (H1 to H6). One worker, THREADS threads, of which the first holds it, and the monitor, each with a store buffer.
 *
 * A thread that holds the worker runs a routine: it comes and goes between the library's code, where it uses the
 * worker, and the user's, where it may stay for ever. One that has lost it goes on without, and when its routine
 * parks it waits with the spare ones. Who waits there may lose patience and end. The monitor wants the worker at any
 * time, TRIES times. To use the worker is to add one to a plain number by a load and a store. Each thread notes
 * what it runs before it leaves, in a plain cell, which the monitor copies, and the thread reads that copy; or the
 * other way round.
 *
 * A lock is a full barrier. membarrier(2) is one of the caller, then of each other thread, at moments of their own.
 *
 * Checked: only the one who holds the worker uses it, and no addition is lost; notes are those of the moment. When
 * nothing moves any more the worker is held by a thread, which knows it and does not wait for one; the monitor
 * waits for nobody, and nothing is asked of anybody, but that one who never comes back will find TAKEN.
 *
 * Mutations, each of which must be found:
 *   NO_HEAVY         the monitor has a barrier for itself alone
 *   ENTERS_LATE      a thread reads `asked` before it stores `inside`
 *   LOOKS_FIRST      the monitor reads `inside` before it asks
 *   LEAVES_EARLY     a thread leaves before it has used its worker
 *   TAKES_BLIND      the monitor that finds it outside does not compare before it says TAKEN
 *   GIVES_BLIND      nor does a thread that gives
 *   WITHDRAWS_BLIND  nor does the monitor that withdraws
 *   ENTERS_BLIND     a thread does not look at `asked`
 *   NOTES_LATE       the monitor says TAKEN before it has its notes
 *   GIVEN_EARLY      a thread says GIVEN before its note is there
 *   GIVING_IS_GIVEN  the monitor does not wait for GIVEN
 *   GIVEN_CLEARED    a thread that enters clears GIVEN itself
 *   TAKEN_STAYS      or does not clear TAKEN
 *   KEEPS            a thread that finds TAKEN keeps its worker
 *   FORGETS          one whom the monitor has asked no more has lost it
 *   PERMIT_FIRST     a permit is given before the worker
 *   PERMIT_LOST      a thread takes back an old permit when it stands among the idle already
 *   ENDS_BLIND       a thread that loses patience does not look whether it was taken out
 *
 * SLEEP: H8 instead. A worker finds work, and is at rest again, and so on; the monitor goes to sleep.
 * Checked: the monitor does not sleep while the worker is busy. Mutations:
 *   SLEEP NO_HEAVY   the monitor has a barrier for itself alone
 *   SLEEP BUSY_LATE  the worker reads `asleep` before it stores `busy`
 *   SLEEP NO_LOOK    the monitor does not look at `busy` when it has said that it sleeps
 *   SLEEP RUNG_LATE  it reads `rung` after that
 */
#ifndef THREADS
#define THREADS 2
#endif
#ifndef ROUNDS
#define ROUNDS 2 /* of each thread: stays in the user's code */
#endif
#ifndef TRIES
#define TRIES 2
#endif
#define MONITOR THREADS
#define ALL     (THREADS + 1)
#define ROOM    6 /* stores in a buffer */

/* the memory */
#define INSIDE(t) ((t) * 6)
#define ASKED(t)  ((t) * 6 + 1)
#define HOLDS(t)  ((t) * 6 + 2) /* rt_thread.worker */
#define RUNS(t)   ((t) * 6 + 3) /* rt_thread.current */
#define PERMIT(t) ((t) * 6 + 4)
#define NOTE(t)   ((t) * 6 + 5) /* rt_thread.offence */
#define NUMBER    (THREADS * 6)
byte mem[THREADS * 6 + 1];

/* asked */
#define NOT          0
#define TAKING       1
#define TAKING_NOTES 2
#define TAKEN        3
#define GIVING       4
#define GIVEN        5

/* the store buffers: thread p's are at[p * ROOM ...] */
byte at[ALL * ROOM], val[ALL * ROOM], stores[ALL];

bool idle[THREADS]; /* under the lock of the threads */

/* what is checked */
byte owner; /* who holds the worker: the first thread, or MONITOR */
byte added;
byte runs[THREADS];
byte noted; /* what was run when the worker was given */
bool waits[THREADS], away[THREADS], gone[THREADS];
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

inline drain(p)
{
    do
    :: stores[p] > 0 -> commit_one(p)
    :: else -> break
    od
}

inline put(p, a, v)
{
    at[p * ROOM + stores[p]] = a;
    val[p * ROOM + stores[p]] = v;
    stores[p]++
}

inline store(p, a, v)
{
    d_step { stores[p] < ROOM - 1 -> put(p, a, v) }
}

inline load(p, a, x)
{
    d_step {
        x = mem[a];
        k_ = 0;
        do
        :: k_ < stores[p] ->
            if
            :: at[p * ROOM + k_] == a -> x = val[p * ROOM + k_]
            :: else
            fi;
            k_++
        :: else -> break
        od;
        k_ = 0
    }
}

inline fence(p)
{
    d_step { drain(p); skip }
}

inline heavy()
{
    fence(MONITOR);
#ifndef NO_HEAVY
    fence(0);
#if THREADS > 1
    fence(1);
#endif
#if THREADS > 2
    fence(2);
#endif
#endif
    skip
}

/* From `asked` is `from` to `to`. x: what it was */
inline change(p, t, from, to, x)
{
    drain(p);
    x = mem[ASKED(t)];
    if
    :: x == from -> mem[ASKED(t)] = to
    :: else
    fi
}

#ifndef SLEEP

/* The worker is used. */
inline use(me, x)
{
    d_step { assert(owner == me); skip }
    load(me, NUMBER, x);
    d_step {
        stores[me] < ROOM - 1 ->
        assert(owner == me);
        put(me, NUMBER, x + 1);
        added++;
        x = 0
    }
}

/* rt_enter_slow. The note of what is run is that, and 10 from the monitor. */
inline enter_slow(me, x, w)
{
    load(me, HOLDS(me), w);
    if
    :: w ->
#ifndef KEEPS
        store(me, HOLDS(me), 0);
#endif
#ifdef GIVES_BLIND
        load(me, ASKED(me), x);
        if
        :: x == TAKING ->
            store(me, ASKED(me), GIVING);
            d_step { assert(owner == me); owner = MONITOR; noted = runs[me] }
        :: else
        fi;
#else
        d_step {
            change(me, me, TAKING, GIVING, x); /* H4 */
            if
            :: x == TAKING -> assert(owner == me); owner = MONITOR; noted = runs[me]
            :: else
            fi
        }
#endif
        if
        :: x == TAKING ->
#ifdef GIVEN_EARLY
            store(me, ASKED(me), GIVEN);
            store(me, NOTE(me), runs[me]);
#else
            store(me, NOTE(me), runs[me]);
            store(me, ASKED(me), GIVEN);
#endif
            goto entered
        :: x == NOT -> /* H5 */
#ifndef FORGETS
            store(me, HOLDS(me), 1);
#endif
            goto entered
        :: else
        fi
    :: else
    fi;
    load(me, ASKED(me), x);
    if
    :: x == NOT -> goto entered
    :: x == GIVEN ->
#ifdef GIVEN_CLEARED
        store(me, ASKED(me), NOT);
#endif
        goto entered
    :: else
    fi;
    mem[ASKED(me)] != TAKING_NOTES;
#ifndef TAKEN_STAYS
    store(me, ASKED(me), NOT);
#endif
    load(me, NOTE(me), x);
    d_step { assert(x == runs[me] + 10); x = 0 }
}

proctype thread(byte me)
{
    byte n, x, w;

own: /* on its own stack, inside */
    skip;
    load(me, HOLDS(me), w);
    if
    :: !w ->
#ifdef PERMIT_LOST
        d_step { drain(me); idle[me] = true; waits[me] = true }
        store(me, PERMIT(me), 0);
#else
        d_step { drain(me); mem[PERMIT(me)] = 0; idle[me] = true; waits[me] = true }
#endif
end_waits:
        if
        :: d_step { mem[PERMIT(me)] == 1 && stores[me] == 0 -> waits[me] = false }
#ifdef ENDS_BLIND
        :: d_step { mem[PERMIT(me)] == 0 && stores[me] == 0 -> idle[me] = false; waits[me] = false; gone[me] = true } goto done
#else
        :: d_step { idle[me] && stores[me] == 0 -> idle[me] = false; waits[me] = false; gone[me] = true } goto done
#endif
        fi;
        load(me, HOLDS(me), w);
        assert(w)
    :: else
    fi;
    use(me, x);
    if
    :: n == ROUNDS -> goto done
    :: else
    fi;
call:
    skip;
    d_step { stores[me] < ROOM - 1 -> runs[me] = n + 1; put(me, RUNS(me), n + 1) }
    load(me, HOLDS(me), w);
#ifdef LEAVES_EARLY
    store(me, INSIDE(me), 0);
    if
    :: w -> use(me, x)
    :: else
    fi;
#else
    if
    :: w -> use(me, x)
    :: else
    fi;
    store(me, INSIDE(me), 0); /* rt_leave */
#endif
    n++;
    if
    :: true
    :: true ->
        away[me] = true;
end_away:
        false
    fi;
    /* rt_enter */
#ifdef ENTERS_LATE
    load(me, ASKED(me), x);
    store(me, INSIDE(me), 1);
#else
    store(me, INSIDE(me), 1);
    load(me, ASKED(me), x);
#endif
#ifndef ENTERS_BLIND
    if
    :: x -> enter_slow(me, x, w)
    :: else
    fi;
#endif
entered:
    x = 0;
    load(me, HOLDS(me), w);
    if
    :: w -> use(me, x)
    :: else
    fi;
    if
    :: n < ROUNDS -> goto call /* back to its routine */
    :: goto own                /* that has parked */
    fi;
done:
    skip
}

/* The monitor's side; t: from whom. x: 1 if the worker is the monitor's */
inline take(t, x)
{
#ifdef LOOKS_FIRST
    load(MONITOR, INSIDE(t), x);
    store(MONITOR, ASKED(t), TAKING);
    heavy();
#else
    store(MONITOR, ASKED(t), TAKING);
    heavy();
    load(MONITOR, INSIDE(t), x);
#endif
    if
    :: x == 0 -> /* H3 */
#ifdef TAKES_BLIND
        d_step { drain(MONITOR); mem[ASKED(t)] = TAKING_NOTES; x = TAKING; owner = MONITOR }
#else
        d_step {
            change(MONITOR, t, TAKING, TAKING_NOTES, x);
            if
            :: x == TAKING -> assert(owner == t); owner = MONITOR
            :: else
            fi
        }
#endif
        if
        :: x == TAKING ->
#ifdef NOTES_LATE
            store(MONITOR, ASKED(t), TAKEN);
            load(MONITOR, RUNS(t), x);
            d_step { assert(x == runs[t]); skip }
            store(MONITOR, NOTE(t), x + 10);
#else
            load(MONITOR, RUNS(t), x);
            d_step { assert(x == runs[t]); skip }
            store(MONITOR, NOTE(t), x + 10);
            store(MONITOR, ASKED(t), TAKEN);
#endif
            x = 1;
            goto taken
        :: else
        fi
    :: else
    fi;
#ifdef WITHDRAWS_BLIND
    load(MONITOR, ASKED(t), x);
    if
    :: x == TAKING -> store(MONITOR, ASKED(t), NOT)
    :: else
    fi;
#else
    d_step { change(MONITOR, t, TAKING, NOT, x) } /* H5 */
#endif
    if
    :: x == TAKING -> x = 0; goto taken
    :: else
    fi;
#ifndef GIVING_IS_GIVEN
    mem[ASKED(t)] == GIVEN;
#endif
    load(MONITOR, NOTE(t), x);
    d_step { assert(x == noted); noted = 0 }
    store(MONITOR, ASKED(t), NOT);
    x = 1
}

proctype monitor()
{
    byte n, x, t, s;
    do
    :: n < TRIES ->
        n++;
        /* one that waits for a worker */
end_alone:
        atomic {
            if
            :: idle[0] -> s = 0
#if THREADS > 1
            :: idle[1] -> s = 1
#endif
#if THREADS > 2
            :: idle[2] -> s = 2
#endif
            fi;
            drain(MONITOR);
            idle[s] = false
        }
        take(t, x);
taken:
        if
        :: x -> /* rt_threads_give */
#ifdef PERMIT_FIRST
            store(MONITOR, PERMIT(s), 1);
            d_step { stores[MONITOR] < ROOM - 1 -> owner = s; put(MONITOR, HOLDS(s), 1) }
#else
            d_step { stores[MONITOR] < ROOM - 1 -> owner = s; put(MONITOR, HOLDS(s), 1) }
            store(MONITOR, PERMIT(s), 1);
#endif
            t = s;
            x = 0
        :: else ->
            d_step { drain(MONITOR); idle[s] = true }
        fi;
        s = 0
    :: else -> break
    od
}

proctype memory()
{
end:
    do
    :: atomic { stores[0] > 0 -> commit_one(0) }
#if THREADS > 1
    :: atomic { stores[1] > 0 -> commit_one(1) }
#endif
#if THREADS > 2
    :: atomic { stores[2] > 0 -> commit_one(2) }
#endif
    :: atomic { stores[MONITOR] > 0 -> commit_one(MONITOR) }
    od
}

/* Nothing moves any more. */
proctype judge()
{
    timeout;
    d_step {
        assert(mem[NUMBER] == added);
        assert(owner != MONITOR);
        assert(!waits[owner] && !idle[owner] && !gone[owner] && mem[HOLDS(owner)]);
        do
        :: k_ < THREADS ->
            assert(mem[ASKED(k_)] == NOT || (mem[ASKED(k_)] == TAKEN && away[k_] && owner != k_));
            assert(k_ == owner || !mem[HOLDS(k_)] || mem[ASKED(k_)] == TAKEN);
            k_++
        :: else -> break
        od;
        k_ = 0
    }
}

init
{
    atomic {
        do
        :: k_ < THREADS -> mem[INSIDE(k_)] = 1; k_++
        :: else -> break
        od;
        k_ = 0;
        mem[HOLDS(0)] = 1;
        run thread(0);
#if THREADS > 1
        run thread(1);
#endif
#if THREADS > 2
        run thread(2);
#endif
        run monitor();
        run memory();
        run judge()
    }
}

#else

/* the memory: thread 0 is the worker */
#define BUSY   0
#define ASLEEP 1
#define RUNG   2
bool sleeps;

proctype worker()
{
    byte n, x;
    do
    :: n < ROUNDS ->
        n++;
#ifdef BUSY_LATE
        load(0, ASLEEP, x);
        store(0, BUSY, 1);
#else
        store(0, BUSY, 1);
        load(0, ASLEEP, x);
#endif
        if
        :: x -> d_step { drain(0); mem[RUNG]++; x = 0; sleeps = false }
        :: else
        fi;
        if
        :: store(0, BUSY, 0)
        :: break /* it stays in its routine */
        fi
    :: else -> break
    od
}

proctype monitor()
{
    byte n, x, seen;
    do
    :: n < TRIES ->
        n++;
#ifndef RUNG_LATE
        load(MONITOR, RUNG, seen);
#endif
        store(MONITOR, ASLEEP, 1);
        heavy();
#ifdef NO_LOOK
        x = 0;
#else
        load(MONITOR, BUSY, x);
#endif
#ifdef RUNG_LATE
        load(MONITOR, RUNG, seen);
#endif
        if
        :: !x ->
            d_step { sleeps = mem[RUNG] == seen; seen = 0 } /* the futex */
end_sleeps:
            !sleeps
        :: else -> x = 0
        fi;
        seen = 0;
        store(MONITOR, ASLEEP, 0)
    :: else -> break
    od
}

proctype memory()
{
end:
    do
    :: atomic { stores[0] > 0 -> commit_one(0) }
    :: atomic { stores[MONITOR] > 0 -> commit_one(MONITOR) }
    od
}

proctype judge()
{
    timeout;
    assert(!(sleeps && mem[BUSY]))
}

init
{
    atomic {
        run worker();
        run monitor();
        run memory();
        run judge()
    }
}

#endif
