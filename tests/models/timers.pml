/* SPDX-License-Identifier: MIT
 *
 * Timers and sleepers: step I6 of src/sched/idle.{h,c}, with src/sched/timers.c, publish of park.c and
 * rt_search_work of search.c.
 *
 * A busy worker sets TIMERS timers in its wheel, each to one of two times, and tells. What it stores into
 * `next` goes through a store buffer; the unlock of the timers that follows is taken for a mere release, which
 * it is on other machines than x86. SLEEPERS idle workers look, sleep, are woken, by whom or by the clock, and
 * run what they find for ever, or come back for more; a look may miss anything. The clock goes on, or stops,
 * when it likes. What stands under a lock is one step.
 *
 *   ITEM  the busy worker also makes one item visible, at any time (one step: I1 is checked by idle.pml)
 *   NAPS  idle workers also nap
 *   OWN   the busy worker may take over its timers itself when they have passed
 *
 * Checked: when nothing moves any more and a worker sleeps, then one that does will be awake when the earliest
 * timer passes.
 *
 * Mutations, each of which must be found:
 *   NO_HEAVY          a worker that goes to sleep has no barrier between saying so and the last look
 *   EARLY_LOOK        it takes the earliest time from before it said so
 *   NO_ALARM          who sets a timer tells nobody
 *   COVER_FIRST       he reads cover before he publishes
 *   ANY_COVER         a cover is good enough for him, however late
 *   COVER_STAYS       a cover does not end with its sleeper's rest
 *   FIRST_KEEPER      one that covers earlier than the keeper does not become the keeper
 *   COVER_OF_WOKEN    one that was woken before it covers, covers all the same
 *   NO_I5             the last searcher to find something wakes nobody
 * FALLBACK: there is no membarrier; the light barrier is a full one (and must hold too). With it:
 *   LIGHT_FALLBACK    it is not
 */
#ifndef SLEEPERS
#define SLEEPERS 2
#endif
#ifndef TIMERS
#define TIMERS 2
#endif
#define LAST  2          /* the times are 1 ... LAST */
#define NEVER (LAST + 1)
#define ROOM  2

byte now;
byte set[LAST + 1]; /* the wheel: how many there are of each time */
byte next = NEVER;
byte at[ROOM], stores; /* stores into next that are under way */
bool item;

/* the state, as one word: read in one step */
byte searching, napping, sleeping;
byte cover = NEVER;
byte keeper; /* 1 + who */

#define AWAKE   0
#define NAPPING 1
#define SLEEPS  2
byte kind[SLEEPERS]; /* of who is on the list */
byte until[SLEEPERS];

byte k_;

#define EARLIEST (set[1] -> 1 : (set[2] -> 2 : NEVER))

inline fence()
{
    d_step {
        if
        :: stores > 0 -> next = at[stores - 1]; at[0] = 0; at[1] = 0; stores = 0
        :: else
        fi
    }
}

inline light()
{
#if defined(FALLBACK) && !defined(LIGHT_FALLBACK)
    fence();
#endif
    skip
}

/* The busy worker's own view of next, and its store. */
#define NEXT (stores == 0 -> next : at[stores - 1])

inline store_next(when)
{
    d_step { stores < ROOM -> at[stores] = when; stores++ }
}

inline take_off(s) /* list_remove, under the lock */
{
    assert(kind[s] != AWAKE);
    if
    :: kind[s] == NAPPING -> napping--
    :: else -> sleeping--
    fi;
    kind[s] = AWAKE;
    until[s] = 0;
    searching++;
#ifndef COVER_STAYS
    if
    :: keeper == 1 + s -> keeper = 0; cover = NEVER
    :: else
    fi
#endif
}

/* rt_idle_wake, lone false. That it reads the state before it takes the lock comes to the same, and that the permit
 * comes later. */
inline wake()
{
    atomic {
        if
        :: searching == 0 && kind[0] != AWAKE -> take_off(0)
        :: searching == 0 && kind[1 % SLEEPERS] != AWAKE -> take_off(1 % SLEEPERS)
        :: searching == 0 && kind[2 % SLEEPERS] != AWAKE -> take_off(2 % SLEEPERS)
        :: searching > 0 || napping + sleeping == 0
        fi
    }
}

/* rt_idle_alarm, but for its barrier; c: the cover that was read */
inline alarm(when, c)
{
#ifdef ANY_COVER
    if
    :: c == NEVER && sleeping > 0 -> wake()
#else
    if
    :: when < c && sleeping > 0 -> wake()
#endif
    :: else
    fi;
    c = 0
}

/* rt_timers_add */
inline add(when)
{
    d_step {
        set[when]++;
        if
        :: when < NEXT -> assert(stores < ROOM); at[stores] = when; stores++
        :: else
        fi
    }
}

proctype busy()
{
    byte n, when, c;
    bool told;
    do
    :: n < TIMERS ->
        atomic {
            n++;
            stores < ROOM;
            if
            :: set[1] == 0 -> when = 1
            :: set[2] == 0 -> when = 2
            fi
        }
#ifdef COVER_FIRST
        c = cover;
        add(when);
        alarm(when, c);
#else
        add(when);
#ifndef NO_ALARM
        light();
        c = cover;
        alarm(when, c);
#endif
#endif
        when = 0
#ifdef ITEM
    :: !told -> told = true; item = true; wake()
#endif
#ifdef OWN
    :: atomic { NEXT <= now && stores < ROOM -> /* rt_order_timers: there is a lock, and it leaves what is later */
            if
            :: now >= 2 -> set[2] = 0
            :: else
            fi;
            set[1] = 0;
            at[stores] = EARLIEST;
            stores++
        }
#endif
    :: n == TIMERS -> break
    od
}

/* Takes over what has passed: under the lock of the timers, so it sees what was done under it before. */
inline expire()
{
    d_step {
        fence();
        if
        :: now >= 1 && set[1] > 0 -> set[1] = 0; found = true
        :: else
        fi;
        if
        :: now >= 2 && set[2] > 0 -> set[2] = 0; found = true
        :: else
        fi;
        next = EARLIEST
    }
}

inline come_back(me)
{
    atomic {
        if
        :: kind[me] != AWAKE -> take_off(me)
        :: else
        fi
    }
}

inline rest(me, how)
{
    assert(kind[me] == AWAKE);
    searching--;
    kind[me] = how;
    if
    :: how == NAPPING -> napping++
    :: else -> sleeping++
    fi
}

/* rt_idle_cover */
inline do_cover(me, c)
{
    d_step {
        until[me] = NEVER;
#ifdef COVER_OF_WOKEN
        if
        :: c < cover ->
#else
        if
        :: kind[me] != AWAKE && c < cover ->
#endif
#ifdef FIRST_KEEPER
            keeper = (keeper -> keeper : 1 + me);
#else
            keeper = 1 + me;
#endif
            cover = c;
            until[me] = c
        :: else
        fi;
        c = 0
    }
}

proctype sleeper(byte me)
{
    byte c;
    bool found, alone;
begin:
    searching++; /* rt_idle_search */
    do
    :: true ->
        if
        :: atomic { next <= now -> expire() } /* look_at_timers */
        :: atomic { item -> item = false; found = true }
        :: true /* anything may be missed */
        fi;
        if
        :: found -> break
        :: else
        fi;
        if
#ifdef NAPS
        :: true ->
            atomic { rest(me, NAPPING) }
            skip; /* any time goes by, or the permit comes */
            come_back(me)
#endif
        :: true ->
#ifdef EARLY_LOOK
            c = next;
#endif
            atomic { rest(me, SLEEPS) } /* rt_idle_announce */
#if !defined(NO_HEAVY) && !defined(FALLBACK)
            fence();
#endif
#ifndef EARLY_LOOK
            c = next;
#endif
            if
            :: item || c <= now -> c = 0; come_back(me) /* rt_idle_withdraw */
            :: else ->
                do_cover(me, c);
endsleep:
                atomic { kind[me] == AWAKE || now >= until[me] -> come_back(me) } /* rt_idle_sleep */
            fi
        fi
    od;
    /* rt_idle_found */
    atomic {
        assert(searching > 0);
        alone = searching == 1 && sleeping > 0;
        searching--;
        found = false
    }
#ifndef NO_I5
    if
    :: alone -> alone = false; wake()
    :: else
    fi;
#endif
    alone = false;
    if
    :: true -> goto begin
    :: true /* for ever */
    fi
}

proctype memory()
{
end:
    do
    :: atomic { stores > 0 -> next = at[0]; at[0] = at[1]; at[1] = 0; stores-- }
    od
}

proctype clock()
{
    do
    :: now < LAST -> now++
    :: break
    od
}

/* When nothing else can move. */
proctype judge()
{
end:
    timeout;
    d_step {
        assert(searching == 0 && napping == 0);
        k_ = NEVER;
        if
        :: kind[0] == SLEEPS && until[0] < k_ -> k_ = until[0]
        :: else
        fi;
        if
        :: kind[1 % SLEEPERS] == SLEEPS && until[1 % SLEEPERS] < k_ -> k_ = until[1 % SLEEPERS]
        :: else
        fi;
        if
        :: kind[2 % SLEEPERS] == SLEEPS && until[2 % SLEEPERS] < k_ -> k_ = until[2 % SLEEPERS]
        :: else
        fi;
        assert(sleeping == 0 || k_ <= EARLIEST);
        k_ = 0
    }
}

init
{
    byte i;
    atomic {
        run busy();
        do
        :: i < SLEEPERS -> run sleeper(i); i++
        :: else -> break
        od;
        i = 0;
        run memory();
        run clock();
        run judge()
    }
}
