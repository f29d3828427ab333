/* SPDX-License-Identifier: MIT
 *
 * Channels and selects: src/comm/select.c (S1 to S4), src/comm/chan.{h,c}, src/sched/wait.h, and rt_wait
 * with src/sched/timers.c. Two channels without a buffer, three routines, each of which does one thing:
 * routine 0 selects to send on channel 0 or to receive from channel 1, perhaps with a limit of time; routine 1
 * selects the opposite; routine 2 sends or receives on one of them, or selects any two sends and receives.
 * ANY: all three do as routine 2, and may have limits.
 *
 * A lock is one step (bias.h is checked by bias.pml), and so is what only those can see who take it later.
 * There is no store buffer: all that is read without a lock is written by compare-and-swap, or is a release
 * store whose being late is its writer's being slow. When a routine parks, the other side of its switch, a
 * process of its own, sets the alarm and leaves the locks, one after the other. The first look, without a
 * lock, is left out: it decides nothing.
 *
 * A routine's frame is alive from its call to its return; in it are its records, the list of its locks, and
 * what it transfers, and each touch of it by others asserts that.
 *
 * Checked: each value is received as often as it was sent, once; nobody is won or woken twice; no frame is
 * touched after its owner returned; no two that could serve each other wait when nothing moves any more,
 * nobody does on a closed channel, or with a limit; nobody waits for a lock for ever.
 * CLOSE: channel 0 is closed at some time, and there is no limit.
 * NO_CHANNELS: routine 0 has no channel in its select, only a limit (rt_sleep_until): it waits for no lock
 * before it goes on, so the other side must not look at its frame when the alarm has been set.
 *
 * Mutations, each of which must be found:
 *   UNORDERED       locks are taken in the order of the cases
 *   TWO_PHASE       a select that found nothing leaves the locks, takes them again, and enters without another look
 *   ENTERS_EARLY    it takes the locks one by one, and looks and enters under each
 *   CLAIM_TORN      a wait is won by a look and a store
 *   CLAIM_BLIND     or without any
 *   CLOCK_BLIND     the clock does not have to win it
 *   KEEPS_LOSERS    a select goes on without taking out its other records
 *   KEEPS_ALARM     or its alarm
 *   TAKES_UNLOCKED  it takes them out without the locks
 *   NOTED_LATE      the one who won notes the record after he has left the lock and made its owner ready
 *   TOUCHES_LIST    the other side looks at its list of locks after the last one was left
 *   LEAVES_FIRST    and sets the alarm after it has left them
 *   NO_CHANNELS READS_LATE  it looks at the list of locks there, though that is empty
 */
#define R 3

/* what a routine may do, and the queues: channel * 2 + side */
#define SEND0  1
#define RECV0  2
#define SEND1  4
#define RECV1  8
#define SHARED 16 /* it is a select */
#define LIMIT  32
#define OTHER(s) ((s) ^ 1)

#define NONE 0
#define OPEN 1
#define WON  2

/* the channels */
bool lock[2], closed[2];
byte queue[4 * R], length[4]; /* 1 + who */

/* of each routine: in its block */
byte wait[R];
bool ready[R];
/* in its frame */
byte what[R], queued[R]; /* by bits */
byte won[R];             /* 1 + the queue */
byte got[R];
bool shut[R]; /* woken by a close */
bool alarm[R];

/* the switch */
bool parked[R];

/* ghosts */
bool alive[R];
byte sent, received; /* by bits */
byte k_;

#define touch(r)   assert(alive[r])
#define QUEUED(r, s) (queued[r] & (1 << (s)))

inline append(me, s)
{
    if
    :: what[me] & (1 << (s)) ->
        queue[(s)*R + length[s]] = 1 + me;
        length[s]++;
        queued[me] = queued[me] | (1 << (s))
    :: else
    fi
}

inline unlink(r, s)
{
    touch(r);
    assert(QUEUED(r, s));
    k_ = 0;
    do
    :: queue[(s)*R + k_] != 1 + r -> k_++
    :: else -> break
    od;
    length[s]--;
    do
    :: k_ < length[s] -> queue[(s)*R + k_] = queue[(s)*R + k_ + 1]; k_++
    :: else -> queue[(s)*R + k_] = 0; break
    od;
    queued[r] = queued[r] & (255 - (1 << (s)));
    k_ = 0
}

/* rt_queue_take. w: 1 + who was won, or 0 */
inline take(s, w, ok)
{
    do
    :: length[s] == 0 -> break
    :: else ->
        d_step {
            w = queue[(s)*R];
            assert(w);
            touch(w - 1);
            ok = true;
            if
            :: what[w - 1] & SHARED ->
#ifndef CLAIM_BLIND
                ok = wait[w - 1] == OPEN;
#endif
#ifndef CLAIM_TORN
                if
                :: ok -> wait[w - 1] = WON
                :: else
                fi
#endif
            :: else
            fi
        }
#ifdef CLAIM_TORN
        if
        :: ok && (what[w - 1] & SHARED) -> wait[w - 1] = WON
        :: else
        fi;
#endif
        d_step {
            unlink(w - 1, s);
#ifndef NOTED_LATE
            if
            :: ok -> won[w - 1] = 1 + (s)
            :: else
            fi
#endif
        }
        if
        :: ok -> ok = false; break
        :: else -> w = 0
        fi
    od
}

inline make_ready(r)
{
    d_step {
        assert(!ready[r] && parked[r]);
        ready[r] = true
    }
}

/* The cases of `mask`, whose locks are held: true in `done`: one has happened, w is to be made ready. */
inline try_all(me, mask, s, w, ok, done)
{
    do
    :: true ->
        s = 4;
        if
        :: (mask & SEND0) && (closed[0] || length[OTHER(0)]) -> s = 0
        :: (mask & RECV0) && (closed[0] || length[OTHER(1)]) -> s = 1
        :: (mask & SEND1) && (closed[1] || length[OTHER(2)]) -> s = 2
        :: (mask & RECV1) && (closed[1] || length[OTHER(3)]) -> s = 3
        :: else -> break
        fi;
        if
        :: closed[s / 2] -> shut[me] = true; done = true; break
        :: else ->
            take(OTHER(s), w, ok);
            if
            :: w ->
                d_step {
                    touch(w - 1);
                    won[me] = 1 + s;
                    if
                    :: s & 1 -> got[me] = w
                    :: else -> got[w - 1] = 1 + me
                    fi;
                    done = true
                }
                break
            :: else
            fi
        fi
    od;
    s = 0
}

#define MINE(c) (what[me] & ((SEND0 | RECV0) << 2 * (c)))

inline acquire(c)
{
    atomic { !lock[c] -> lock[c] = true }
}

/* lock_all */
inline acquire_mine(me)
{
#ifdef UNORDERED
    if
    :: me == 1 && MINE(1) -> acquire(1)
    :: else
    fi;
#endif
    if
    :: MINE(0) -> acquire(0)
    :: else
    fi;
#ifdef UNORDERED
    if
    :: me != 1 && MINE(1) -> acquire(1)
    :: else
    fi
#else
    if
    :: MINE(1) -> acquire(1)
    :: else
    fi
#endif
}

inline release_mine(me)
{
    if
    :: MINE(0) -> lock[0] = false
    :: else
    fi;
    if
    :: MINE(1) -> lock[1] = false
    :: else
    fi
}

/* enter_all, of the cases of `mask` */
inline enter(me, mask)
{
    d_step {
        if
        :: what[me] & SHARED -> wait[me] = OPEN
        :: else
        fi;
        if
        :: mask & (SEND0 | RECV0) -> append(me, 0); append(me, 1)
        :: else
        fi;
        if
        :: mask & (SEND1 | RECV1) -> append(me, 2); append(me, 3)
        :: else
        fi
    }
}

/* withdraw_all, of one record: nobody else can be under its lock, so all of it is one step */
inline withdraw(me, s)
{
    if
    :: QUEUED(me, s) ->
#ifdef TAKES_UNLOCKED
        atomic {
#else
        atomic {
            !lock[(s) / 2];
#endif
            if
            :: QUEUED(me, s) -> unlink(me, s)
            :: else
            fi
        }
    :: else
    fi
}

proctype routine(byte me)
{
    byte s, w;
    bool ok, done;
    alive[me] = true;
#ifdef ENTERS_EARLY
    if
    :: MINE(0) && MINE(1) ->
        acquire(0);
        try_all(me, (what[me] & (SEND0 | RECV0)), s, w, ok, done);
        if
        :: !done -> enter(me, (SEND0 | RECV0))
        :: else
        fi;
        lock[0] = false;
        if
        :: !done ->
            acquire(1);
            try_all(me, (what[me] & (SEND1 | RECV1)), s, w, ok, done);
            if
            :: !done -> enter(me, (SEND1 | RECV1))
            :: else -> lock[1] = false
            fi
        :: else
        fi
    :: else
        acquire_mine(me);
        try_all(me, what[me], s, w, ok, done);
        if
        :: !done -> enter(me, what[me])
        :: else -> release_mine(me)
        fi
    fi;
#else
    acquire_mine(me);
    try_all(me, what[me], s, w, ok, done);
    if
    :: done -> release_mine(me)
    :: else ->
#ifdef TWO_PHASE
        release_mine(me);
        acquire_mine(me);
#endif
        enter(me, what[me])
    fi;
#endif
    if
    :: done ->
        if
        :: w ->
            make_ready(w - 1);
#ifdef NOTED_LATE
            d_step { touch(w - 1); won[w - 1] = 1 + OTHER(won[me] - 1) }
#endif
            w = 0
        :: else
        fi
    :: else ->
        parked[me] = true;
end:
        ready[me];
        d_step { ready[me] = false; parked[me] = false }
        /* rt_timers_remove: under the lock of the timers, which is one step of the clock's */
#ifndef KEEPS_ALARM
        alarm[me] = false;
#endif
        done = true
    fi;
#ifdef KEEPS_LOSERS
    skip;
#else
    withdraw(me, 0);
    withdraw(me, 1);
    withdraw(me, 2);
    withdraw(me, 3);
#endif
    d_step {
        alive[me] = false;
        if
        :: shut[me] || won[me] == 0
        :: else ->
            assert(QUEUED(me, won[me] - 1) == 0 && what[me] & (1 << (won[me] - 1)));
            if
            :: (won[me] - 1) & 1 ->
                assert(got[me] && !(received & (1 << got[me])));
                received = received | (1 << got[me])
            :: else -> sent = sent | (1 << (1 + me))
            fi
        fi;
        done = false
    }
}

/* leave_all, or that of a single lock. touch: of the list */
inline leave_mine(me)
{
#ifdef ENTERS_EARLY
    if
    :: MINE(0) && !MINE(1) -> lock[0] = false
    :: else
    fi;
#else
    if
    :: MINE(0) -> d_step { touch(me); lock[0] = false }
    :: else
    fi;
#endif
    if
    :: MINE(1) -> d_step { touch(me); lock[1] = false }
    :: else
    fi;
#ifdef TOUCHES_LIST
    touch(me)
#else
    skip
#endif
}

/* The other side of its switch. */
proctype other(byte me)
{
end:
    parked[me];
#ifdef LEAVES_FIRST
    leave_mine(me);
#endif
    if
    :: what[me] & LIMIT -> d_step { touch(me); alarm[me] = true } /* publish, park.c */
    :: else
    fi;
#ifdef READS_LATE
    touch(me);
#endif
#ifndef LEAVES_FIRST
    leave_mine(me)
#endif
}

/* rt_timers_expire: under the lock of the timers */
inline expire(r)
{
    d_step {
        touch(r);
        alarm[r] = false;
#ifdef CLOCK_BLIND
        make_ready(r)
#else
        if
        :: wait[r] == OPEN -> wait[r] = WON; make_ready(r)
        :: else
        fi
#endif
    }
}

proctype clock()
{
end:
    do
    :: atomic { alarm[0] -> expire(0) }
#ifdef ANY
    :: atomic { alarm[1] -> expire(1) }
    :: atomic { alarm[2] -> expire(2) }
#endif
    od
}

#ifdef CLOSE
/* rt_chan_shut */
proctype closer()
{
    byte w, all;
    bool ok;
    acquire(0);
    closed[0] = true;
    do
    :: length[0] + length[1] > 0 ->
        if
        :: length[0] > 0 -> take(0, w, ok)
        :: else -> take(1, w, ok)
        fi;
        if
        :: w -> d_step { touch(w - 1); shut[w - 1] = true; all = all | (1 << (w - 1)); w = 0 }
        :: else
        fi
    :: else -> break
    od;
    lock[0] = false;
    do
    :: w < R ->
        if
        :: all & (1 << w) -> make_ready(w)
        :: else
        fi;
        w++
    :: else -> break
    od
}
#endif

#define WAITS(r, cases) (parked[r] && (what[r] & (cases)))
#define MEET(a, b, s)   (WAITS(a, 1 << (s)) && WAITS(b, 1 << OTHER(s)))
#define FACE(a, b)      (MEET(a, b, 0) || MEET(a, b, 1) || MEET(a, b, 2) || MEET(a, b, 3))

/* When nothing else can move. */
proctype judge()
{
end:
    timeout;
    d_step {
        assert(!FACE(0, 1) && !FACE(0, 2) && !FACE(1, 2));
        assert(!WAITS(0, LIMIT) && !WAITS(1, LIMIT) && !WAITS(2, LIMIT));
        assert(!closed[0] || !(WAITS(0, SEND0 | RECV0) || WAITS(1, SEND0 | RECV0) || WAITS(2, SEND0 | RECV0)));
        assert(sent == received)
    }
}

inline any(r)
{
    if
    :: what[r] = SEND0
    :: what[r] = RECV0
    :: what[r] = SEND1
    :: what[r] = RECV1
    :: what[r] = SHARED | SEND0 | RECV0
    :: what[r] = SHARED | SEND1 | RECV1
    :: what[r] = SHARED | SEND0 | SEND1
    :: what[r] = SHARED | SEND0 | RECV1
    :: what[r] = SHARED | RECV0 | SEND1
    :: what[r] = SHARED | RECV0 | RECV1
    fi
}

inline perhaps_limited(r)
{
    if
    :: true
    :: what[r] & SHARED -> what[r] = what[r] | LIMIT
    fi
}

init
{
    byte i;
    atomic {
#ifdef ANY
        any(0);
        any(1);
        any(2);
        if
        :: what[0] <= what[1] && what[1] <= what[2]
        :: else -> goto end /* the other orders are the same */
        fi;
        perhaps_limited(0);
        perhaps_limited(1);
        perhaps_limited(2);
#else
#ifdef NO_CHANNELS
        what[0] = SHARED | LIMIT;
#else
        what[0] = SHARED | SEND0 | RECV1;
#ifndef CLOSE
        perhaps_limited(0);
#endif
#endif
        what[1] = SHARED | RECV0 | SEND1;
        any(2);
#endif
        do
        :: i < R -> run routine(i); run other(i); i++
        :: else -> break
        od;
        i = 0;
        run clock();
#ifdef CLOSE
        run closer();
#endif
        run judge()
    }
end:
    skip
}
