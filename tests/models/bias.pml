/* SPDX-License-Identifier: MIT
 *
 * The biased lock of src/sched/bias.{h,c} (B1 to B6) on x86-64: THREADS threads, of which the first SEATS are
 * workers and have a seat, with a store buffer each. They enter and leave an object for ever, by bias or by
 * its lock; workers also come and go for other objects that are biased to them. Anybody may stop at any time.
 * When an object is biased anew is left to chance, which includes all that bias.c chooses.
 *
 * A lock is one step (src/os/futex.h), as is what the kernel does for a futex. The sequence `inside` is its
 * lowest bit, and for each that waits, whether it has changed since he read it: so it never ends, and nothing
 * has to be bounded. membarrier(2) is a full barrier of the caller, then one of each other thread, at a moment
 * of its own, and one of the caller.
 *
 * Checked: never two inside; each sees what the last one wrote; nobody waits for ever (for a seat, or a lock).
 * PROGRESS: with weak fairness, whoever waits for a seat gets on, though its holder comes and goes without
 * end.
 * TWO: two objects, entered alone or both at once, by one visit or in the order of their addresses (B6).
 * LEAF: inside, another lock is taken.
 *
 * Mutations, each of which must be found:
 *   NO_HEAVY           the one that clears owner has no barrier
 *   BARRIER_FIRST      it has it before it clears owner
 *   NO_SECOND_LOOK     a holder that has come does not read owner again
 *   LOOKS_FIRST        it reads it before it has come, twice
 *   NO_WAIT            a seat that is in is not waited for
 *   OWNER_STAYS        owner is not cleared
 *   GOES_BLIND         a holder that goes does not read wanted
 *   GOES_LATE          it reads wanted, then makes inside even
 *   WANTED_LATE        who waits counts himself after the barrier
 *   BIASED_OUTSIDE     owner is set when the lock has been left
 *   PROGRESS FLAG      it is waited until the holder is out, whichever visit that ends
 *   TWO MIXED          of two objects one is entered by bias, then the other by its lock
 *   LEAF SEAT_IN_LEAF  somebody enters the object with that lock held
 */
#ifndef THREADS
#define THREADS 3
#endif
#ifndef SEATS
#define SEATS 2
#endif
#ifdef TWO
#define OBJECTS 2
#else
#define OBJECTS 1
#endif
#ifndef ROOM
#define ROOM 4 /* stores in a buffer */
#endif

/* the memory */
#define INSIDE(s) (s)
#define OWNER(o)  (SEATS + (o)) /* 1 + the seat */
#define VALUE(o)  (SEATS + OBJECTS + (o))
#define CELLS     (SEATS + 2 * OBJECTS)
byte mem[CELLS];
/* changed by locked instructions only */
byte wanted[SEATS];
bool lock[OBJECTS];
#ifdef LEAF
bool leaf;
#endif

/* the store buffers: thread p's are at[p * ROOM ...] */
byte at[THREADS * ROOM], val[THREADS * ROOM], stores[THREADS];

/* of those who wait for a seat */
byte seat[THREADS];   /* 1 + which */
bool same[THREADS];   /* inside is still what he read */
bool asleep[THREADS]; /* on its futex */

/* ghosts */
byte within[OBJECTS];
bool last[OBJECTS]; /* what the last one wrote */
#ifdef PROGRESS
bool served;
#endif
byte k_;

inline commit_one(p)
{
    mem[at[p * ROOM]] = val[p * ROOM];
    if
    :: at[p * ROOM] < SEATS ->
        k_ = 0;
        do
        :: k_ < THREADS ->
            if
            :: seat[k_] == at[p * ROOM] + 1 -> same[k_] = false
            :: else
            fi;
            k_++
        :: else -> break
        od
    :: else
    fi;
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

inline store(p, a, v)
{
    d_step { stores[p] < ROOM -> at[p * ROOM + stores[p]] = a; val[p * ROOM + stores[p]] = v; stores[p]++ }
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

inline heavy(p)
{
    fence(p);
    fence((p + 1) % THREADS);
#if THREADS > 2
    fence((p + 2) % THREADS);
#endif
    fence(p)
}

inline acquire(p, l)
{
    d_step { !l -> drain(p); l = true }
}

inline release(p, l)
{
    d_step { drain(p); l = false }
}

/* rt_seat_come */
inline come(me)
{
    store(me, INSIDE(me), 1)
}

/* rt_seat_go, rt_seat_wake */
inline go(me, x)
{
#ifdef GOES_LATE
    x = wanted[me % SEATS];
    store(me, INSIDE(me), 0);
#else
    store(me, INSIDE(me), 0);
    x = wanted[me % SEATS];
#endif
#ifndef GOES_BLIND
    if
    :: x ->
        d_step { /* a system call */
            drain(me);
            k_ = 0;
            do
            :: k_ < THREADS ->
                if
                :: seat[k_] == me + 1 -> asleep[k_] = false
                :: else
                fi;
                k_++
            :: else -> break
            od;
            k_ = 0
        }
    :: else
    fi;
#endif
    x = 0
}

#ifdef FLAG
#define UNCHANGED (same[me] || mem[INSIDE(seat[me] - 1)])
#else
#define UNCHANGED same[me]
#endif

/* x: 1 + the seat */
inline revoke(me, o, x)
{
#ifdef BARRIER_FIRST
    heavy(me);
#endif
#ifndef OWNER_STAYS
    store(me, OWNER(o), 0);
#endif
#ifndef WANTED_LATE
    d_step { drain(me); wanted[x - 1]++ }
#endif
#if !defined(NO_HEAVY) && !defined(BARRIER_FIRST)
    heavy(me);
#endif
#ifdef WANTED_LATE
    d_step { drain(me); wanted[x - 1]++ }
#endif
#ifndef NO_WAIT
    d_step {
        if
        :: mem[INSIDE(x - 1)] -> seat[me] = x; same[me] = true
        :: else
        fi
    }
    do
    :: seat[me] && UNCHANGED ->
        d_step { /* rt_futex_wait */
            if
            :: UNCHANGED -> asleep[me] = true
            :: else
            fi
        }
        !asleep[me]
    :: !(seat[me] && UNCHANGED) -> break
    od;
#endif
    skip;
    d_step {
        drain(me);
        wanted[x - 1]--;
        seat[me] = 0;
        same[me] = false;
#ifdef PROGRESS
        served = true
#endif
    }
}

/* rt_bias_lock, but for its being polite. biased: with BIASED_OUTSIDE, that it is to be */
inline bias_lock(me, o, x)
{
    acquire(me, lock[o]);
    load(me, OWNER(o), x);
    if
    :: x == me + 1 -> x = 0 /* its own */
    :: else ->
        if
        :: x -> revoke(me, o, x); x = 0
        :: else
        fi;
        if
        :: true
        :: me < SEATS -> /* B5 */
#ifdef BIASED_OUTSIDE
            biased = true
#else
            store(me, OWNER(o), me + 1)
#endif
        fi
    fi
}

inline bias_unlock(me, o)
{
    release(me, lock[o]);
#ifdef BIASED_OUTSIDE
    if
    :: biased -> biased = false; store(me, OWNER(o), me + 1)
    :: else
    fi
#endif
}

inline section(me, o, x)
{
    d_step { within[o]++; assert(within[o] == 1) }
#ifdef LEAF
    acquire(me, leaf);
    release(me, leaf);
#endif
    load(me, VALUE(o), x);
    assert(x == last[o]);
    store(me, VALUE(o), 1 - x);
    d_step { last[o] = 1 - x; x = 0; within[o]-- }
}

/* The second look, when it has come. in: it is in */
inline look_again(me, o, x)
{
#ifndef NO_SECOND_LOOK
    load(me, OWNER(o), x);
    in = x == me + 1;
    x = 0
#else
    in = true
#endif
}

/* rt_bias_enter and _leave */
inline enter_and_leave(me, o, x)
{
    load(me, OWNER(o), x);
    if
    :: x == me + 1 ->
#ifdef LOOKS_FIRST
        look_again(me, o, x);
        come(me);
#else
        come(me);
        look_again(me, o, x);
#endif
        if
        :: in
        :: else -> go(me, x)
        fi
    :: else -> x = 0
    fi;
    if
    :: in -> section(me, o, x); go(me, x); in = false
    :: else -> bias_lock(me, o, x); section(me, o, x); bias_unlock(me, o)
    fi
}

#ifdef TWO
/* lock_all and unlock_all of src/comm/select.c */
inline enter_both(me, x)
{
    if
    :: me < SEATS ->
        come(me);
        look_again(me, 0, x);
        if
        :: in ->
            look_again(me, 1, x);
#ifdef MIXED
            if
            :: !in -> bias_lock(me, 1, x); bias_unlock(me, 1)
            :: else
            fi
#endif
        :: else
        fi;
        if
        :: in
        :: else -> go(me, x)
        fi
    :: else
    fi;
    if
    :: in -> section(me, 0, x); section(me, 1, x); go(me, x); in = false
    :: else ->
        bias_lock(me, 0, x);
        bias_lock(me, 1, x);
        section(me, 0, x);
        section(me, 1, x);
        bias_unlock(me, 0);
        bias_unlock(me, 1)
    fi
}
#endif

proctype thread(byte me)
{
    byte x;
    bool in;
#ifdef BIASED_OUTSIDE
    bool biased;
#endif
    do
    :: enter_and_leave(me, 0, x)
#ifdef TWO
    :: enter_and_leave(me, 1, x)
    :: enter_both(me, x)
#endif
#ifdef SEAT_IN_LEAF
    :: acquire(me, leaf); enter_and_leave(me, 0, x); release(me, leaf)
#endif
    :: me < SEATS -> come(me); go(me, x) /* something else, for a while */
    :: break
    od
}

proctype memory(byte p)
{
end:
    do
    :: atomic { stores[p] > 0 -> commit_one(p) }
    od
}

#ifdef PROGRESS
/* Nobody waits for a seat, or one who did has got on. */
proctype content()
{
end:
    do
    :: served || seat[0] + seat[1] == 0 ->
progress:
        served = false
    od
}
#endif

init
{
    byte i;
    atomic {
        do
        :: i < THREADS -> run thread(i); run memory(i); i++
        :: else -> break
        od;
        i = 0;
#ifdef PROGRESS
        run content()
#endif
    }
}
