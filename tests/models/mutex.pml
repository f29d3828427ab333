/* SPDX-License-Identifier: MIT
 *
 * src/sync/mutex.c (M1 to M5): LOCKERS routines, each of which locks and unlocks ROUNDS times. Whoever does it
 * as the last of all frees the mutex right after his unlock.
 *
 * Each access to the word is a step. There is no store buffer: the one plain store, which frees the word or
 * hands it over, comes before the same one's making ready or leaving lock, and its being late is his being
 * slow. `lock` and the queue under it are one step each (src/os/futex.h). A routine that parks is one with the
 * other side of its switch, whose last touch is to leave lock. How much time goes by is left to chance, and
 * how often the clock is looked at.
 *
 * Checked: never two inside; each sees what the last one wrote; nobody waits for ever; the mutex is not
 * touched after it was freed, nor is one that waited after it went on; nobody is left in the queue. A release
 * that comes to the queue finds somebody: what release_slow does if it does not is never needed. (That nobody
 * is passed by others for ever is a matter of time, and not checked.)
 *
 * Mutations, each of which must be found:
 *   READY_FIRST      the waiter is made ready before the word is freed
 *   NO_MARK          who takes a free mutex from under lock does not say that others wait
 *   ENTERS_UNMARKED  who enters the queue leaves the word as it is
 *   RETURNS_UNMARKED likewise one who was on his way
 *   MARK_TORN        WAITERS is set by a load and a store
 *   MARK_FIRST       it is set before lock is taken
 *   RELEASE_TORN     the release looks at the word and then stores
 *   LOOKS_AFTER      having freed the word, it looks at the queue once more
 *   COMING_STAYS     one that was on his way leaves COMING in the word
 *   LATE_CLEAR       it is handed to one on his way without WAITERS
 *   LATE_TORN        or by a look and a store
 *   LATE_UNSEEN      one who has been woken does not look whether he has it
 *   HANDOVER_CLEAR   the one it is handed to by a release is not told that others wait
 * FREES_INSIDE: the word is freed before lock is left. That holds as well: the waiter that was taken out has
 * yet to come, and by lock, so nobody may free the mutex before.
 */
#ifndef LOCKERS
#define LOCKERS 3
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif

#define WAITERS   8
#define COMING    16
#define HOLDER(w) ((w) & (WAITERS - 1)) /* 1 + who */

/* the mutex */
byte word;
bool lock, handover;
byte queue[LOCKERS], length; /* 1 + who */
byte coming;                 /* 1 + who */

bool ready[LOCKERS];

/* ghosts */
byte within, last, left = LOCKERS * ROUNDS;
bool freed;
bool waits[LOCKERS]; /* its record is there */
byte k_;

inline touch()
{
    assert(!freed)
}

inline acquire()
{
    d_step { !lock -> touch(); lock = true }
}

inline release()
{
    d_step { touch(); lock = false }
}

inline cas(expected, wanted, won)
{
    d_step {
        touch();
        won = word == expected;
        if
        :: won -> word = wanted
        :: else
        fi
    }
}

inline make_ready(who)
{
    d_step { assert(!ready[who]); ready[who] = true }
}

/* try_lock. won; w: what it was */
inline try_lock()
{
    d_step { touch(); w = word }
    if
    :: HOLDER(w) == 0 -> cas(w, w | (1 + me), won)
    :: else
    fi
}

/* take_or_mark, under lock. come: it was on its way. won */
inline take_or_mark(come)
{
    do
    :: true ->
        d_step { touch(); w = word; x = (come -> COMING : 0) }
#ifdef COMING_STAYS
        x = 0;
#endif
        if
#ifndef LATE_UNSEEN
        :: HOLDER(w) == 1 + me -> won = true; break
#endif
        :: HOLDER(w) == 0 ->
#ifdef NO_MARK
            cas(w, (w | (1 + me)) & (255 - x), won);
#else
            cas(w, (w | (1 + me) | (length > 0 -> WAITERS : 0)) & (255 - x), won);
#endif
            if
            :: won -> break
            :: else
            fi
#ifdef LATE_UNSEEN
        :: else ->
#else
        :: HOLDER(w) != 0 && HOLDER(w) != 1 + me ->
#endif
#ifdef ENTERS_UNMARKED
            if
            :: !come -> break
            :: else
            fi;
#endif
#ifdef RETURNS_UNMARKED
            if
            :: come -> break
            :: else
            fi;
#endif
#ifdef MARK_FIRST
            if
            :: !come -> break
            :: else
            fi;
#endif
#ifdef MARK_TORN
            d_step { touch(); word = (w | WAITERS) & (255 - x); won = true }
#else
            cas(w, (w | WAITERS) & (255 - x), won);
#endif
            if
            :: won -> won = false; break
            :: else
            fi
        fi
    od;
    w = 0;
    x = 0
}

inline prepend()
{
    d_step {
        touch();
        k_ = length;
        do
        :: k_ > 0 -> queue[k_] = queue[k_ - 1]; k_--
        :: else -> break
        od;
        queue[0] = 1 + me;
        length++
    }
}

inline append()
{
    d_step { touch(); waits[me] = true; queue[length] = 1 + me; length++ }
}

/* queue_up: under lock, which is left; has the mutex */
inline queue_up()
{
    append();
    do
    :: true ->
        release();
        d_step { ready[me] -> ready[me] = false } /* rt_park */
        acquire();
        d_step {
            come = coming == 1 + me;
            if
            :: come -> coming = 0
            :: else
            fi
        }
        take_or_mark(come);
        come = false;
        if
        :: won -> release(); break
        :: else
        fi;
        if
        :: handover
        :: !handover -> handover = true /* M5 */
        :: true
        fi;
        prepend()
    od;
    skip;
    d_step { waits[me] = false; won = false }
}

inline lock_slow()
{
    try_lock(); /* the looks before */
    w = 0;
    if
    :: won
    :: else ->
#ifdef MARK_FIRST
        d_step { touch(); w = word }
        if
        :: HOLDER(w) -> cas(w, w | WAITERS, won); won = false
        :: else
        fi;
        w = 0;
#endif
        acquire();
        take_or_mark(false);
        if
        :: won -> release()
        :: else -> queue_up()
        fi
    fi
}

/* release_slow. next: 1 + whom it makes ready */
inline release_slow()
{
    acquire();
    d_step {
        touch();
        assert(length > 0);
        next = queue[0];
        length--;
        k_ = 0;
        do
        :: k_ < length -> queue[k_] = queue[k_ + 1]; k_++
        :: else -> queue[k_] = 0; break
        od;
        k_ = 0
    }
    if
    :: handover ->
        if
        :: true -> handover = false
        :: length > 0 /* who comes after has waited for too long too */
        fi;
#ifdef HANDOVER_CLEAR
        d_step { touch(); word = next }
#else
        d_step { touch(); word = next | (length > 0 -> WAITERS : 0) }
#endif
        release();
        make_ready(next - 1)
    :: else ->
        coming = next;
#ifdef FREES_INSIDE
        d_step { touch(); word = COMING }
        release();
#else
        release();
#ifdef READY_FIRST
        make_ready(next - 1);
#endif
        d_step { touch(); word = COMING }
#endif
#ifndef READY_FIRST
        make_ready(next - 1)
#endif
    fi;
    next = 0
}

/* release_to_late, that finds it late. won */
inline release_to_late()
{
    acquire();
    d_step {
        touch();
        next = coming;
        assert(next == 0 || waits[next - 1]);
#ifdef LATE_CLEAR
        x = 0;
#else
        x = (length > 0 -> WAITERS : w & WAITERS)
#endif
    }
    release();
    if
    :: next ->
#ifdef LATE_TORN
        d_step { touch(); won = word == w }
        if
        :: won -> d_step { touch(); word = next | x }
        :: else
        fi
#else
        cas(w, next | x, won)
#endif
    :: else
    fi;
    next = 0;
    x = 0
}

/* rt_mutex_release */
inline unlock()
{
    d_step { touch(); w = word }
    do
    :: (w & (WAITERS | COMING)) == WAITERS -> release_slow(); break
    :: else ->
        if
        :: w & COMING -> release_to_late()
        :: true
        fi;
        if
        :: won -> break
        :: else
        fi;
#ifdef RELEASE_TORN
        won = word == w;
        if
        :: won -> d_step { touch(); word = w & COMING }
        :: else
        fi;
#else
        cas(w, w & COMING, won);
#endif
        if
#ifdef LOOKS_AFTER
        :: won -> touch(); break
#else
        :: won -> break
#endif
        :: else -> d_step { touch(); w = word }
        fi
    od;
    skip;
    d_step { w = 0; won = false }
}

proctype locker(byte me)
{
    byte n, w, next, x;
    bool won, come, is_last;
    do
    :: n < ROUNDS ->
        n++;
        try_lock();
        if
        :: won -> w = 0
        :: else -> w = 0; lock_slow()
        fi;
        won = false;
        d_step { within++; assert(within == 1 && HOLDER(word) == 1 + me); x = last }
        d_step { assert(x == last); last = 1 + me; x = 0; left--; is_last = left == 0; within-- }
        unlock();
        if
        :: is_last -> d_step { assert(length == 0); freed = true; is_last = false }
        :: else
        fi
    :: else -> break
    od
}

init
{
    byte i;
    atomic {
        do
        :: i < LOCKERS -> run locker(i); i++
        :: else -> break
        od;
        i = 0
    }
}
