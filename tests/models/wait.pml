/* SPDX-License-Identifier: MIT
 *
 * How a wait ends: src/sched/wait.{h,c} (K1 to K7) with src/sched/park.c and switch.h, on x86-64. One block,
 * whose routine waits WAITS times, and may end between two waits and be followed by another incarnation with the
 * next id. THREADS threads with a store buffer each run it: whoever runs it when it parks goes on with the other
 * side of its switch, while another may already run what has been made ready. They also are the wakers, WAKES
 * times or fewer. A canceller, for any of the ids, only loads and uses locked instructions.
 *
 * An object has a lock, that of a biased one (bias.h is checked by bias.pml): to take it is no barrier, and its
 * release is a store like any other. A routine that is made ready can be run at once by the thread that did it, by
 * others when they see all that was stored before. What is done under the lock of the timers is one step.
 * membarrier(2) is a full barrier of each other thread, at a moment of its own.
 *
 * Each wait is of one of these kinds, deaf or not:
 *   ALONE   one record, and no limit: opened by the other side
 *   SELECT  shared, without a limit: opened by the other side, as EXPOSED (without LIMITS)
 * and with LIMITS, in which the clock may come at any time, also of these:
 *   TIMED   shared, with a record, entered under the lock, and an alarm
 *   LATER   shared, its record is entered by the other side, without a lock (the oneshot); perhaps an alarm
 *   SLEEP   an alarm and no record
 *   NOTHING as LATER, but the other side finds that there is nothing to wait for
 *   PASSED  no wait at all: its limit has passed. Its record stands in the queue until it is taken out
 * where all but the first are ALONE, SLEEP or PASSED, and not deaf, unless ANY is given. TWO: two cancellers.
 *
 * Checked: each wait is won once, by those who may, and then the routine is made ready, once, when it is saved;
 * the routine learns who has won; a frame is touched while its wait lasts, by others than its owner too; a
 * cancellation ends no wait of another incarnation, and none that is deaf. When nothing moves any more, and
 * the routine waits, then it is not cancelled, unless deaf, has no alarm, and its record is in the queue.
 *
 * Mutations, each of which must be found:
 *   NO_HEAVY           a cancellation has no barrier
 *   WAKER_LOOKS_FIRST  a waker reads CANCEL before it stores (no light barrier)
 *   WAKER_BLIND        it does not read it
 *   OPENER_LOOKS_FIRST who opens a wait reads CANCEL before
 *   OPENER_BLIND       or not at all (K4)
 *   OPENS_EARLY        the wait is opened before the switch
 *   OPENS_LATE         or after the lock has been left
 *   NO_ID              the id is not compared again
 *   ID_FIRST           it is, before `wait` is read
 *   SETTLE_NO_ID       a wait is settled without a look at the id
 *   SETTLE_BLIND       or at SETTLED
 *   NO_STOP            the routine does not look for CANCEL before it waits
 *   WOKEN_AS_ALONE     a cancellation settles a wait that it finds WOKEN
 *   POPS_FIRST         a waker takes the record out, then wins
 *   STAYS_QUEUED       the routine goes on without taking its record out
 *   DEAF_OPENED        a shield is not looked at
 *   TWO STAYS_ALONE            `wait` is still ALONE when a cancellation has ended it, and when the next incarnation begins
 *   TWO SECOND_NO_HEAVY        a cancellation that finds CANCEL set has no barrier of its own
 *   LIMITS EXPOSES_EARLY       a shared wait is exposed before the switch
 *   LIMITS EXPOSES_BLIND       by a plain store
 *   LIMITS EXPOSES_FIRST       before the alarm is set and the lock is left
 *   LIMITS EXPOSER_LOOKS_FIRST who exposes it reads CANCEL before
 *   LIMITS EXPOSER_BLIND       or not at all
 *   LIMITS CLOCK_AT_ONCE       the clock makes ready what is not published yet
 *   LIMITS EARLY_IGNORED       nobody looks for its note
 *   LIMITS PASSED_OPEN         PASSED leaves `wait` as it was: after NOTHING it is SHARED, and can be won
 * FALLBACK: there is no membarrier; the light barrier is a full one (and must hold too). With it:
 *   FALLBACK LIGHT_FALLBACK    it is not
 */
#ifndef THREADS
#define THREADS 2
#endif
#ifndef WAITS
#define WAITS 2
#endif
#ifndef WAKES
#define WAKES 2
#endif
#ifndef IDS
#define IDS 2
#endif
#define ROOM 6 /* stores in a buffer */

/* the memory */
#define WAIT   0
#define WORD   1
#define LOCK   2
#define QUEUED 3 /* the record, by the number of its wait */
#define CELLS  4
byte mem[CELLS];

/* the store buffers: thread p's are at[p * ROOM ...] */
byte at[THREADS * ROOM], val[THREADS * ROOM], stores[THREADS];

/* `wait` */
#define NONE     0
#define ALONE    1
#define DEAF     2
#define SHARED   3
#define EXPOSED  4
#define SEALED   5
#define EARLY    6
#define WOKEN    7
#define CLOCK    8
#define CANCELED 9
#define STATE(w) ((w) & 15)
#define COUNT(w) ((w) >> 4)
#define IN(w, s) (((w) & 240) + (s))

/* the word */
#define CANCEL  1
#define SETTLED 2
#define ID(w)   ((w) >> 2)

/* kinds of waits */
#define SELECT  2
#define TIMED   3
#define LATER   4
#define SLEEP   5
#define NOTHING 6
#define PASSED  7

/* the routine's frame */
byte kind; /* 0: it does not wait */
bool deaf, limited, result;
bool alarm; /* in the wheel */

bool saved;
byte list;  /* it is ready: 1 + the thread that made it so */
byte ahead; /* that has so many stores to do before others may run it */
byte waits, wakes;
bool over;

/* ghosts */
#define NOBODY 15
byte id;     /* of the incarnation that is */
byte winner; /* the state in which the wait ended, or NOBODY */
byte k_;

/* ---- the memory. What ends in _ is part of a step ---- */

/* The store k_ of p. */
inline remove_(p)
{
    stores[p]--;
    do
    :: k_ < stores[p] ->
        at[p * ROOM + k_] = at[p * ROOM + k_ + 1];
        val[p * ROOM + k_] = val[p * ROOM + k_ + 1];
        k_++
    :: else -> at[p * ROOM + k_] = 0; val[p * ROOM + k_] = 0; break
    od;
    k_ = 0
}

inline commit_one_(p)
{
    mem[at[p * ROOM]] = val[p * ROOM];
    if
    :: list == 1 + p && ahead > 0 -> ahead--
    :: else
    fi;
    k_ = 0;
    remove_(p)
}

inline drain_(p)
{
    do
    :: stores[p] > 0 -> commit_one_(p)
    :: else -> break
    od
}

#define HAS_ROOM (stores[me] + 3 <= ROOM)

inline store_(a, v)
{
    at[me * ROOM + stores[me]] = a;
    val[me * ROOM + stores[me]] = v;
    stores[me]++
}

inline load_(a, x)
{
    x = mem[a];
    k_ = 0;
    do
    :: k_ < stores[me] ->
        if
        :: at[me * ROOM + k_] == a -> x = val[me * ROOM + k_]
        :: else
        fi;
        k_++
    :: else -> break
    od;
    k_ = 0
}

inline light_()
{
#if defined(FALLBACK) && !defined(LIGHT_FALLBACK)
    drain_(me)
#else
    skip
#endif
}

inline fence(p)
{
    d_step { drain_(p); skip }
}

inline heavy()
{
#ifndef FALLBACK
    fence(0);
    fence(1);
#if THREADS > 2
    fence(2);
#endif
#endif
    skip
}

/* The lock can be taken by `me`: also if it has left it, but nobody could see that yet. */
#define LEAVES(k) (stores[me] > (k) && at[me * ROOM + (k)] == LOCK)
#define IS_FREE   (LEAVES(0) || LEAVES(1) || LEAVES(2) || LEAVES(3) || LEAVES(4) || LEAVES(5) || mem[LOCK] == 0)

inline acquire_()
{
    k_ = 0;
    do
    :: k_ < stores[me] && at[me * ROOM + k_] != LOCK -> k_++
    :: else -> break
    od;
    if
    :: k_ < stores[me] ->
        if
        :: list == 1 + me && ahead > k_ -> ahead--
        :: else
        fi;
        remove_(me)
    :: else -> mem[LOCK] = 1; k_ = 0
    fi
}

/* ---- of the protocol ---- */

/* What others than the routine touch of its frame. */
#define touch_(c) assert(kind && waits == (c))

/* Somebody has won it, and is to make it ready. */
inline win_(how)
{
    assert(kind && kind != PASSED && !winner);
    winner = how
}

inline make_ready_(p)
{
    assert(saved && !list);
    list = 1 + p;
    ahead = (p < THREADS -> stores[p % THREADS] : 0)
}

/* rt_wait_settle, of that id */
inline settle_(id_, won)
{
#ifdef SETTLE_NO_ID
    won = true;
#else
    won = ID(mem[WORD]) == (id_);
#endif
#ifndef SETTLE_BLIND
    if
    :: mem[WORD] & SETTLED -> won = false
    :: else
    fi;
#endif
    if
    :: won -> mem[WORD] = mem[WORD] | SETTLED
    :: else
    fi
}

/* The cancellation that has won an ALONE wait does not leave it so (K5). */
inline no_more_alone(w, won)
{
#ifndef STAYS_ALONE
    d_step {
        if
        :: STATE(w) == ALONE && mem[WAIT] == w -> mem[WAIT] = IN(w, CANCELED)
        :: else
        fi
    }
#else
    skip
#endif
}

/* rt_wait_change, from w. w: what it is then, if it is not changed */
inline change_(w, state, won)
{
    won = mem[WAIT] == w;
    if
    :: won -> mem[WAIT] = IN(w, state)
    :: else -> w = mem[WAIT]
    fi
}

/* rt_wait_begin. w: what it is now */
inline begin_(w, state)
{
    load_(WAIT, w);
    w = (COUNT(w) + 1) * 16 + state;
    store_(WAIT, w)
}

/* ---- wakers ---- */

#define IS_OPEN(w) (STATE(w) == SHARED || STATE(w) == EXPOSED || STATE(w) == SEALED)

/* The rest of rt_queue_take, and what its caller does. r: the record */
inline wake_end_(w, x, r, won)
{
    if
    :: won -> win_(WOKEN)
    :: else
    fi;
#ifndef POPS_FIRST
    touch_(r);
    store_(QUEUED, 0);
#endif
    if
    :: won -> touch_(r); result = true
    :: else
    fi;
    store_(LOCK, 0);
    if
    :: won -> make_ready_(me)
    :: else
    fi;
    won = false;
    w = 0;
    x = 0;
    r = 0
}

/* In the lock, and there is a record: rt_queue_take, or that of a send to a oneshot, and what its caller does */
inline wake(w, x, r, won)
{
#ifdef POPS_FIRST
    d_step { HAS_ROOM -> store_(QUEUED, 0) }
#endif
    d_step {
        HAS_ROOM ->
        load_(WAIT, w);
        if
        :: STATE(w) == ALONE || STATE(w) == DEAF -> /* rt_wait_win */
#ifdef WAKER_LOOKS_FIRST
            load_(WORD, x)
#else
            store_(WAIT, IN(w, WOKEN))
#endif
        :: else ->
            drain_(me); /* rt_wait_win_shared */
            w = mem[WAIT];
            won = IS_OPEN(w);
            if
            :: won -> mem[WAIT] = IN(w, WOKEN)
            :: else
            fi;
            wake_end_(w, x, r, won)
        fi
    }
    if
    :: w ->
#ifdef WAKER_LOOKS_FIRST
        d_step { HAS_ROOM -> store_(WAIT, IN(w, WOKEN)) }
#endif
        d_step {
            HAS_ROOM ->
#ifndef WAKER_LOOKS_FIRST
            light_();
            load_(WORD, x);
#endif
#ifdef WAKER_BLIND
            x = 0;
#endif
            if
            :: (x & CANCEL) && STATE(w) != DEAF
            :: else -> won = true; wake_end_(w, x, r, won)
            fi
        }
        if
        :: w ->
            d_step {
                HAS_ROOM ->
                drain_(me);
                settle_(ID(x), won);
                wake_end_(w, x, r, won)
            }
        :: else
        fi
    :: else
    fi
}

/* ---- the clock: rt_timers_expire, rt_wait_win_clock ---- */

proctype clock()
{
end:
    do
    :: d_step {
            alarm ->
            alarm = false;
            if
#ifdef CLOCK_AT_ONCE
            :: IS_OPEN(mem[WAIT]) ->
#else
            :: STATE(mem[WAIT]) == SHARED -> mem[WAIT] = IN(mem[WAIT], EARLY)
            :: STATE(mem[WAIT]) == EXPOSED || STATE(mem[WAIT]) == SEALED ->
#endif
                mem[WAIT] = IN(mem[WAIT], CLOCK);
                win_(CLOCK);
                make_ready_(THREADS)
            :: else
            fi
        }
    od
}

/* ---- cancellers: routine_cancel, rt_wait_cancel ---- */

bool first; /* the first one has begun. If both mean the same, that can be told from the order */

proctype canceller(byte mine; bool after)
{
    byte w, x;
    bool won, second;
end:
    d_step {
        id >= mine && (first || !after) ->
        won = ID(mem[WORD]) == mine;
        second = mem[WORD] & CANCEL;
        if
        :: won -> mem[WORD] = mem[WORD] | CANCEL
        :: else
        fi;
        if
        :: mine == 1 -> first = true
        :: else
        fi
    }
    if
    :: !won
    :: won && second /* leaves it to the first */
    :: won ->
#ifdef SECOND_NO_HEAVY
        if
        :: second
        :: else -> heavy()
        fi;
#else
#ifndef NO_HEAVY
        heavy();
#endif
#endif
#ifdef ID_FIRST
        x = mem[WORD];
        w = mem[WAIT];
#else
        w = mem[WAIT];
        x = mem[WORD];
#endif
        d_step {
            won = false;
            if
#ifdef NO_ID
            :: false
#else
            :: ID(x) != mine -> w = 0
#endif
#ifdef WOKEN_AS_ALONE
            :: else -> won = STATE(w) == ALONE || STATE(w) == WOKEN
#else
            :: else -> won = STATE(w) == ALONE
#endif
            fi;
            x = 0
        }
        d_step {
            if
            :: STATE(w) == EXPOSED -> change_(w, CANCELED, won)
            :: won -> settle_(mine, won)
            :: else
            fi;
            if
            :: won -> win_(CANCELED); assert(id == mine && !deaf)
            :: else -> w = 0
            fi
        }
        no_more_alone(w, won);
        if
        :: w -> d_step { make_ready_(THREADS) }
        :: else
        fi
    fi;
    d_step { won = false; second = false; w = 0; x = 0 }
}

/* ---- the routine, and the other side of its switch ---- */

inline go_on_()
{
    kind = 0;
    winner = 0;
    deaf = false;
    limited = false;
    result = false
}

/* What it is to wait for, if it may. */
#if defined(LIMITS) && !defined(ANY)
#define FEW (waits > 1)
#else
#define FEW false
#endif
inline choose_(x)
{
    waits++;
    if
    :: kind = ALONE
#ifdef LIMITS
    :: kind = SLEEP; limited = true
    :: kind = PASSED
    :: !FEW -> kind = TIMED; limited = true
    :: !FEW -> kind = LATER
    :: !FEW -> kind = LATER; limited = true
    :: !FEW -> kind = NOTHING; limited = true
#else
    :: kind = SELECT
#endif
    fi;
    if
    :: kind != PASSED && !FEW -> deaf = true
    :: true
    fi;
#ifndef NO_STOP
    /* rt_frame_stop. PASSED may be under a shield */
    load_(WORD, x);
    if
    :: kind != PASSED && !deaf && (x & CANCEL) -> go_on_()
    :: else
    fi;
    x = 0
#endif
}

/* rt_wait_open: true in won: it is to be made ready */
inline open(w, x, y, won)
{
#ifdef OPENER_LOOKS_FIRST
    d_step { load_(WORD, y) }
#endif
    d_step {
        HAS_ROOM ->
        x = (kind == ALONE -> ALONE : EXPOSED);
#ifndef DEAF_OPENED
        if
        :: deaf -> x = (kind == ALONE -> DEAF : SEALED)
        :: else
        fi;
#endif
        begin_(w, x);
#ifndef OPENER_LOOKS_FIRST
        x = 0
#else
        x = y
#endif
    }
    d_step {
#ifndef OPENER_LOOKS_FIRST
        light_();
        load_(WORD, x);
#endif
#ifdef OPENER_BLIND
        x = 0;
#endif
        won = (STATE(w) == ALONE || STATE(w) == EXPOSED) && (x & CANCEL);
        x = 0
    }
    d_step {
        if
        :: won ->
            drain_(me);
            if
            :: STATE(w) == ALONE -> settle_(ID(mem[WORD]), won)
            :: else -> change_(w, CANCELED, won)
            fi
        :: else
        fi;
        if
        :: won -> win_(CANCELED)
        :: else
        fi
    }
    if
    :: won -> no_more_alone(w, won)
    :: else
    fi
}

/* rt_wait_expose. w: as it was opened */
inline expose(w, x, is_deaf, won)
{
#ifdef EXPOSER_LOOKS_FIRST
    d_step { load_(WORD, x) }
#endif
    d_step {
        opened = w;
#ifdef EXPOSES_BLIND
        store_(WAIT, IN(w, (is_deaf -> SEALED : EXPOSED)));
        won = true;
#else
        drain_(me);
        change_(w, (is_deaf -> SEALED : EXPOSED), won);
#endif
        if
        :: won && is_deaf -> won = false
        :: won && !is_deaf -> w = IN(opened, EXPOSED)
        :: else -> won = w == IN(opened, EARLY)
        fi;
        opened = 0
    }
    d_step {
        if
        :: won && STATE(w) == EXPOSED ->
#ifndef EXPOSER_LOOKS_FIRST
            light_();
            load_(WORD, x);
#endif
#ifdef EXPOSER_BLIND
            x = 0;
#endif
            won = x & CANCEL
#ifdef EARLY_IGNORED
        :: won && STATE(w) == EARLY -> won = false
#endif
        :: else
        fi;
        x = 0
    }
    d_step {
        if
        :: won ->
            x = (STATE(w) == EARLY -> CLOCK : CANCELED);
            drain_(me);
            change_(w, x, won);
            if
            :: won -> win_(x)
            :: else
            fi
        :: else
        fi;
        x = 0
    }
}

#define LOCKS(k) ((k) == ALONE || (k) == SELECT || (k) == TIMED || (k) == PASSED)

/* It has been made ready, or (PASSED) has not waited at all. */
inline come_back(w, x)
{
    d_step {
        /* rt_timers_remove */
        if
        :: limited -> drain_(me); alarm = false
        :: else
        fi;
        /* how it ended: K6 */
        load_(WAIT, w);
        if
        :: kind == PASSED
        :: kind == NOTHING -> assert(winner == NOBODY)
        :: kind == ALONE -> assert(winner == (result -> WOKEN : CANCELED))
        :: else -> assert(winner == STATE(w) && result == (winner == WOKEN))
        fi;
        w = 0;
        /* rt_give_up and the like */
#ifndef STAYS_QUEUED
        load_(QUEUED, x);
#endif
        if
        :: !x -> go_on_()
        :: else
        fi
    }
    if
    :: x ->
        d_step {
            IS_FREE && HAS_ROOM -> /* nobody can be under the lock meanwhile */
            acquire_();
            load_(QUEUED, x);
            if
            :: x -> store_(QUEUED, 0)
            :: else
            fi;
            store_(LOCK, 0);
            assert(kind != PASSED || !winner);
            go_on_();
            x = 0
        }
    :: else
    fi
}

proctype thread(byte me)
{
#ifdef EXPOSES_FIRST
    byte y;
#endif
    byte w, x, opened, r;
    bool won, is_deaf;
end:
    do
    :: atomic {
            list && (list == 1 + me || ahead == 0) && (waits || me == 0) -> /* it is run */
            list = 0;
            ahead = 0;
            saved = false
        }
        if
        :: kind -> come_back(w, x)
        :: else
        fi;
next:
        if
        :: waits == WAITS -> over = true
        :: d_step { /* it ends, and go makes the next */
                id < IDS && waits && stores[me] + 2 <= ROOM ->
                id++;
                store_(WORD, 0);
                store_(WORD, 4 * id);
                list = 1 + me;
                ahead = stores[me]
            }
        :: waits < WAITS ->
            atomic {
                HAS_ROOM;
                choose_(x);
                if
                :: LOCKS(kind) -> d_step { IS_FREE -> acquire_() }
                :: else
                fi
            }
            if
            :: !kind -> goto next
            :: else
            fi;
#ifdef OPENS_EARLY
            if
            :: kind == ALONE || kind == SELECT -> open(w, x, opened, won)
            :: else
            fi;
#endif
            d_step {
                HAS_ROOM ->
                r = waits;
                is_deaf = deaf;
                if
                :: kind >= TIMED && kind != PASSED -> begin_(w, SHARED)
                :: else
                fi
            }
#ifdef EXPOSES_EARLY
            if
            :: kind >= TIMED && kind != PASSED -> expose(w, x, is_deaf, won)
            :: else
            fi;
#endif
            d_step {
                HAS_ROOM ->
                if
                :: LOCKS(kind) -> store_(QUEUED, waits)
                :: else
                fi;
                if
                :: kind == PASSED ->
#ifndef PASSED_OPEN
                    begin_(w, NONE);
                    w = 0;
#endif
                    r = 0;
                    store_(LOCK, 0)
                :: else -> saved = true; x = kind /* the switch. From here on it may run elsewhere */
                fi
            }
            if
            :: !x -> come_back(w, x); goto next
            :: x == ALONE || x == SELECT ->
                x = 0;
#if !defined(OPENS_EARLY) && !defined(OPENS_LATE)
                open(w, x, opened, won);
#endif
                d_step {
                    HAS_ROOM ->
                    touch_(r);
                    store_(LOCK, 0)
                }
#ifdef OPENS_LATE
                open(w, x, opened, won);
#endif
                d_step {
                    if
                    :: won -> make_ready_(me)
                    :: else
                    fi
                }
            :: x >= TIMED -> /* publish */
#ifdef EXPOSES_FIRST
                expose(w, y, is_deaf, won);
#endif
                /* publish, park.c */
                if
                :: limited -> d_step { touch_(r); drain_(me); alarm = true }
                :: else
                fi;
                d_step {
                    HAS_ROOM ->
                    if
                    :: x == TIMED -> touch_(r); store_(LOCK, 0)
                    :: x == LATER -> touch_(r); drain_(me); mem[QUEUED] = r
                    :: x == NOTHING -> touch_(r); win_(NOBODY); won = true
                    :: else
                    fi;
                    if
                    :: x == NOTHING -> w = 0
                    :: else
                    fi;
                    x = 0
                }
#if !defined(EXPOSES_FIRST) && !defined(EXPOSES_EARLY)
                if
                :: w -> expose(w, x, is_deaf, won)
                :: else
                fi;
#endif
                d_step {
                    if
                    :: won -> make_ready_(me)
                    :: else
                    fi
                }
            fi;
            d_step { won = false; is_deaf = false; w = 0; x = 0; opened = 0; r = 0 }
        fi
    :: d_step { wakes < WAKES && IS_FREE && HAS_ROOM && mem[QUEUED] -> wakes++; acquire_(); load_(QUEUED, r) }
        if
        :: r -> wake(w, x, r, won)
        :: else -> d_step { HAS_ROOM -> store_(LOCK, 0) }
        fi
    od
}

proctype memory()
{
end:
    do
    :: d_step { stores[0] > 0 -> commit_one_(0) }
    :: d_step { stores[1] > 0 -> commit_one_(1) }
#if THREADS > 2
    :: d_step { stores[2] > 0 -> commit_one_(2) }
#endif
    od
}

/* When nothing else can move. */
proctype judge()
{
end:
    timeout;
    d_step {
        assert(!mem[LOCK] && !list && (over || saved));
        if
        :: saved ->
            assert(!limited && (deaf || !(mem[WORD] & CANCEL)));
            assert(mem[QUEUED] == waits)
        :: else -> assert(!kind && !mem[QUEUED])
        fi
    }
}

init
{
    byte i;
    atomic {
        id = 1;
        mem[WORD] = 4;
        list = 1;
        do
        :: wakes < WAKES -> wakes++
        :: break
        od;
        do
        :: i < THREADS -> run thread(i); i++
        :: else -> break
        od;
        i = 0;
        run memory();
#ifdef TWO
        run canceller(1, false);
        if
        :: run canceller(1, true)
        :: run canceller(IDS, false)
        fi;
#else
        if
        :: run canceller(1, false)
        :: run canceller(IDS, false)
        fi;
#endif
#ifdef LIMITS
        run clock();
#endif
        run judge()
    }
}
