/* SPDX-License-Identifier: MIT
 *
 * The biased lock of src/sched/ready.h on x86-64 (L1 to L4): an owner and two thieves, each with a store
 * buffer. Inside, everybody adds one to a plain number by a load and a store.
 *
 * membarrier(2) is a full barrier of the caller, then one of each other thread, at some moment of its own, one after the
 * other, and returns when all are done. FALLBACK: no membarrier, both barriers are ordinary full ones.
 *
 * Checked: never two inside; no addition is lost; both flags are clear in the end.
 *
 * Mutations, each of which must be found:
 *   NO_HEAVY        the thief has no barrier
 *   THIEF_SWAPPED   the thief's barrier comes before it sets its flag
 *   OWNER_SWAPPED   the owner reads the thief's flag before it sets its own
 *   LIGHT_FALLBACK  with FALLBACK: the owner's barrier remains a light one
 *   NO_CAS          thieves win the flag by looking and setting
 */
#define OWNER   0
#define THREADS 3 /* the owner is 0 */
#ifndef ROUNDS
#define ROUNDS 2 /* of each thread */
#endif
#define ROOM    6

/* the memory */
#define OWNER_IN 0
#define THIEF_IN 1
#define NUMBER   2
byte mem[3];

/* the store buffers: thread p's are at[p * ROOM ...] */
byte at[THREADS * ROOM], val[THREADS * ROOM], stores[THREADS];

byte inside, added, through; /* what is checked */
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
    d_step { drain(p) }
}

inline heavy(p)
{
#ifndef NO_HEAVY
    fence(p);
#ifndef FALLBACK
    fence((p + 1) % THREADS);
    fence((p + 2) % THREADS);
    fence(p);
#endif
#endif
    skip
}

inline light(p)
{
#ifdef FALLBACK
#ifndef LIGHT_FALLBACK
    fence(p);
#endif
#endif
    skip
}

inline section(p, x)
{
    d_step { inside++; assert(inside == 1) }
    load(p, NUMBER, x);
    store(p, NUMBER, x + 1);
    d_step { x = 0; added++; inside-- }
}

proctype owner()
{
    byte n, x;
    do
    :: n < ROUNDS ->
        n++;
#ifdef OWNER_SWAPPED
        load(OWNER, THIEF_IN, x);
        light(OWNER);
        store(OWNER, OWNER_IN, 1);
#else
        store(OWNER, OWNER_IN, 1);
        light(OWNER);
        load(OWNER, THIEF_IN, x);
#endif
        if
        :: !x -> section(OWNER, x)
        :: else -> x = 0
        fi;
        store(OWNER, OWNER_IN, 0)
    :: else -> break
    od;
    through++
}

proctype thief(byte me)
{
    byte n, x;
    bool won;
    do
    :: n < ROUNDS ->
        n++;
#ifdef THIEF_SWAPPED
        heavy(me);
#endif
#ifdef NO_CAS
        load(me, THIEF_IN, x);
        won = !x;
        if
        :: won -> store(me, THIEF_IN, 1)
        :: else
        fi;
#else
        d_step {
            drain(me);
            won = !mem[THIEF_IN];
            mem[THIEF_IN] = 1
        }
#endif
        if
        :: won ->
#ifndef THIEF_SWAPPED
            heavy(me);
#endif
            load(me, OWNER_IN, x);
            if
            :: !x -> section(me, x)
            :: else -> x = 0
            fi;
            store(me, THIEF_IN, 0);
            won = false
        :: else
        fi
    :: else -> break
    od;
    through++
}

proctype memory()
{
end:
    do
    :: atomic { stores[0] > 0 -> commit_one(0) }
    :: atomic { stores[1] > 0 -> commit_one(1) }
    :: atomic { stores[2] > 0 -> commit_one(2) }
    od
}

proctype judge()
{
    through == THREADS && stores[0] + stores[1] + stores[2] == 0;
    d_step {
        assert(mem[NUMBER] == added);
        assert(!mem[OWNER_IN] && !mem[THIEF_IN])
    }
}

init
{
    atomic {
        run owner();
        run thief(1);
        run thief(2);
        run memory();
        run judge()
    }
}
