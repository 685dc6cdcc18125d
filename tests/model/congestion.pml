/*
 * congestion.pml: senders that are paused, and the wake that ends it.
 *
 * Worker 0 has the receiver, in one slot, the others have a sender each. Two keys: the slot, and worker 0 as
 * a whole for the credit that it gives. Stands for routes_set_congested(), routes_clear_congested() and
 * routes_wait() in routes.c, for backpressure.c, for relay_must_wait() and relay_run() in relay.c, outbox_wake()
 * and outbox_flush() in mailbox.c, flush_outboxes() and forget_worker() in worker.c; master.pml has the master.
 * Worker 0 gives no credit while it is short of queue entries, or has not taken what was sent.
 *
 * Proved, with any process killed at any step: no wake-up is lost. Whatever happens, when nobody can do
 * anything any more, no receiver is congested and every sender has sent all that it had. As each run is
 * finite, this is the same as "who waits for what is not congested goes on", without a fairness condition.
 *
 * Memory orders: spin interleaves whole accesses, as if all were sequentially consistent. It may, because
 *   - `congested` and `waiters` are a Dekker pair: the receiver's worker clears the flag and then takes the
 *     waiters, a sender's worker adds itself and then rereads the flag, all four sequentially consistent
 *     (MUTATE_NO_RECHECK and MUTATE_TAKE_FIRST show what happens without the order);
 *   - `credited` and `waiters` are another, and the gauge of queue entries and `waiters` a third: a sequentially
 *     consistent fence stands between the store to the one and the load of the other in wait_give_credit(), and in
 *     wait_for_worker() the operations are sequentially consistent themselves (MUTATE_NO_FENCE has the load before
 *     the store);
 *   - what the master resets is seen by who is told DOWN or UP after it, as the kernel orders a channel's
 *     sendmsg(2) and recvmsg(2).
 * The first look at `congested` is relaxed in the code: it may be old, and then the sender sends once more
 * or looks again, which the interleavings here have as well.
 * Not covered: more than one receiver, several senders in one worker (they share its bit; each wake wakes
 * all), a sender that waits for its own worker's store, which looks again every few milliseconds (upload.pml), STOP
 * and FINISH at the hub's end, and the policy to refuse, under which only the second key is waited for.
 *
 * Mutations: MUTATE_NO_RECHECK, MUTATE_TAKE_FIRST, MUTATE_NO_FENCE, MUTATE_NO_WAKE_ALL (a wake that did not
 * fit is forgotten), MUTATE_NO_WAKE_DEAD (no wait_wake_worker()), MUTATE_SILENT_DRAIN (forget_worker() takes
 * records without wait_give_credit()), MUTATE_SHORT_FOR_EVER (no wait_give_credit() at the end of a turn),
 * MUTATE_ONE_LOOK (whoever found a receiver congested does not ask for credit when that has just ended), MUTATE_RESET_LATE (a successor zeroes `credited` itself, when the
 * others may know of it already), and MUTATE_UP_UNACKED of master.pml.
 */
#ifndef W
#define W 2
#endif
#ifndef DEATHS
#define DEATHS 2
#endif
#ifndef MORTAL
#define MORTAL 7
#endif
#ifndef MESSAGES
#define MESSAGES 2 /* that each sender sends */
#endif
#ifndef CONGESTIONS
#define CONGESTIONS 2 /* how often the receiver is congested, or its worker short of queue entries */
#endif
#ifndef WINDOW
#define WINDOW 0 /* the credit: this many records may be under way, and one more */
#endif

#define BIT(i) (1 << (i))
#define ALL (BIT(W) - 1)
#define PIPE_ROOM 1
#define OUTBOX_ROOM 1

/* Keys, and what a wake record names. */
#define SLOT 0
#define WORKER 1
#define NO_KEY 2
#define EVERYTHING 3

/* Shared memory. */
bool present = true;     /* ids[slot] names a client */
bool congested[2];       /* by key; the worker's is never set */
bool scarce;              /* worker 0 has few queue entries left */
byte waiters[2];
byte credited[W];        /* on the page of worker 0: by sender's worker */

chan pipe[W] = [PIPE_ROOM] of { byte, byte }; /* to 0: the sender's worker, 0. To others: 0, the key */

/* Worker 0's. */
chan wakes[W] = [OUTBOX_ROOM] of { byte };
bool lost_wake[W];
byte congestions;

/* The others'. */
chan outbox[W] = [OUTBOX_ROOM] of { byte };
byte sent[W];
byte waits_for[W] = NO_KEY;
byte messages[W] = MESSAGES; /* still to be sent */

inline reset_range(i)
{
    if
    :: i == 0 ->
        present = false;
        congested[SLOT] = false;
        waiters[SLOT] = 0;
        congested[WORKER] = false;
        waiters[WORKER] = 0;
        scarce = false
    :: else
    fi
}

inline discard(i)
{
    do :: pipe[i] ? _, _ :: empty(pipe[i]) -> break od
}

inline reset_holder(i)
{
    if
#ifndef MUTATE_RESET_LATE
    :: i == 0 ->
        for (k : 1 .. W - 1) { credited[k] = 0 }
        k = 0
#endif
    :: else
    fi
}

#include "master.pml"

/* ---- the receiver's worker ---- */

/* outbox_wake(), called for each bit of what routes_clear_congested() returned. */
inline wake_all_of(set, key)
{
    d_step {
        h = 1;
        do
        :: h < W ->
            if
            :: (set & BIT(h)) != 0 && (up[0] & BIT(h)) != 0 ->
                if
                :: len(wakes[h]) < OUTBOX_ROOM && !lost_wake[h] -> wakes[h] ! key
                :: else -> lost_wake[h] = true
                fi
            :: else
            fi;
            h++
        :: else -> break
        od;
        h = 0; set = 0
    }
}

/* wait_end_congestion() */
inline end_congestion(key)
{
#ifdef MUTATE_TAKE_FIRST
    d_step { set = waiters[key]; waiters[key] = 0 }
    congested[key] = false;
#else
    congested[key] = false;
    d_step { set = waiters[key]; waiters[key] = 0 }
#endif
    wake_all_of(set, key)
}

/* wait_give_credit() */
inline wake_window()
{
    if
    :: waiters[WORKER] != 0 && !scarce -> end_congestion(WORKER)
    :: else
    fi
}

/* outbox_flush() */
inline flush_wakes(h)
{
    d_step {
        wakes[h] ? key -> pipe[h] ! 0, key;
        key = 0;
#ifndef MUTATE_NO_WAKE_ALL
        if
        :: len(wakes[h]) == 0 && lost_wake[h] -> wakes[h] ! EVERYTHING; lost_wake[h] = false
        :: else
        fi
#endif
    }
}

inline receiver_forgets(who)
{
    up[0] = up[0] & ~BIT(who);
    do
    :: atomic { pipe[0] ? h, _ -> credited[h]++; h = 0 }
    :: empty(pipe[0]) -> break
    od;
    atomic {
        do :: wakes[who] ? _ :: empty(wakes[who]) -> break od;
        lost_wake[who] = false
    }
    credited[who] = 0;
#ifndef MUTATE_SILENT_DRAIN
    wake_window();
#endif
    answers[0] ! DOWN, who
}

#define BECOMES_CONGESTED(key) (present && !congested[key] && congestions < CONGESTIONS)
#define FLUSHES_WAKES(h) (nempty(wakes[h]) && nfull(pipe[h]))

inline receiver_loop()
{
    do
    :: channel[0] ? UP, who -> up[0] = up[0] | BIT(who); answers[0] ! UP, who; who = 0
    :: channel[0] ? DOWN, who -> receiver_forgets(who); who = 0
    :: atomic { !present && HAS_CLIENTS(0) -> present = true }
    /* handle_event(): a record is taken; then the window moves on */
#ifdef MUTATE_NO_FENCE
    :: atomic { pipe[0] ? h, _ -> set = waiters[WORKER] } credited[h]++; h = 0;
        if
        :: set != 0 && !scarce -> end_congestion(WORKER)
        :: else
        fi
#else
    :: atomic { pipe[0] ? h, _ -> credited[h]++; h = 0 } wake_window()
#endif
    /* over its limit, or short of queue entries; and later no longer */
    :: atomic { BECOMES_CONGESTED(SLOT) -> congested[SLOT] = true; congestions++ }
    :: atomic { present && !scarce && congestions < CONGESTIONS -> scarce = true; congestions++ }
    :: congested[SLOT] -> end_congestion(SLOT)
#ifdef MUTATE_SHORT_FOR_EVER
    :: scarce -> scarce = false
#else
    :: scarce -> scarce = false; wake_window()
#endif
    :: atomic { FLUSHES_WAKES(1) -> flush_wakes(1) }
#if W > 2
    :: atomic { FLUSHES_WAKES(2) -> flush_wakes(2) }
#endif
    od
}

active proctype receiver()
{
    byte who, h, set, key;

    up[0] = ALL & ~BIT(0);
    do
    :: { receiver_loop() } unless { killed[0] };
        atomic {
            up[0] = 0;
            for (h : 1 .. W - 1) {
                do :: wakes[h] ? _ :: empty(wakes[h]) -> break od;
                lost_wake[h] = false
            }
            who = 0; h = 0; set = 0; key = 0;
            zombie[0] = true
        }
        atomic { forked[0] -> forked[0] = false }
#ifdef MUTATE_RESET_LATE
        { for (h : 1 .. W - 1) { credited[h] = 0 } h = 0 } unless { killed[0] };
#endif
    od
}

/* ---- a sender's worker ---- */

#define NO_CREDIT (scarce || sent[me] - credited[me] > WINDOW || sent[me] < credited[me])

/* routes_wait(), and wait_pause() if it has to be. */
inline wait_while(condition, key)
{
    waiters[key] = waiters[key] | BIT(me);
#ifdef MUTATE_NO_RECHECK
    waits_for[me] = key
#else
    if
    :: condition -> waits_for[me] = key
    :: else
    fi
#endif
}

inline wait_for_worker()
{
    if
    :: NO_CREDIT -> wait_while(NO_CREDIT, WORKER)
    :: else
    fi
}

/* relay_must_wait(), then relay_run() */
inline send_message()
{
    if
    :: congested[SLOT] -> wait_while(congested[SLOT], SLOT)
    :: else
    fi;
#ifdef MUTATE_ONE_LOOK
    if
    :: waiters[SLOT] & BIT(me) -> skip
    :: else ->
#endif
    if
    :: waits_for[me] == NO_KEY && (up[me] & BIT(0)) != 0 -> wait_for_worker()
    :: else
    fi;
#ifdef MUTATE_ONE_LOOK
    fi;
#endif
    if
    :: waits_for[me] != NO_KEY
    :: atomic { waits_for[me] == NO_KEY ->
        messages[me]--;
        assert(!present || (up[me] & BIT(0)) == 0 || len(outbox[me]) < OUTBOX_ROOM);
        if
        :: present && (up[me] & BIT(0)) != 0 && len(outbox[me]) < OUTBOX_ROOM -> outbox[me] ! me; sent[me]++
        :: else /* UNDELIVERED */
        fi }
    fi
}

inline wake(key)
{
    if
    :: key == EVERYTHING || waits_for[me] == key -> waits_for[me] = NO_KEY
    :: else
    fi
}

inline sender_forgets(who)
{
    if
    :: who == 0 -> atomic { up[me] = up[me] & ~BIT(0); sent[me] = 0 }
    :: else
    fi;
    do
    :: atomic { pipe[me] ? _, key -> wake(key); key = 0 }
    :: empty(pipe[me]) -> break
    od;
    if
    :: who == 0 ->
        atomic { do :: outbox[me] ? _ :: empty(outbox[me]) -> break od }
#ifndef MUTATE_NO_WAKE_DEAD
        waits_for[me] = NO_KEY /* wait_wake_worker(): both keys are its */
#endif
    :: else
    fi;
    answers[me] ! DOWN, who
}

inline sender_loop()
{
    do
    :: channel[me] ? UP, who -> up[me] = up[me] | BIT(who); answers[me] ! UP, who; who = 0
    :: channel[me] ? DOWN, who -> sender_forgets(who); who = 0
    :: atomic { pipe[me] ? _, key -> wake(key); key = 0 }
    :: waits_for[me] == NO_KEY && messages[me] > 0 && HAS_CLIENTS(me) -> send_message()
    /* flush_outboxes(); what the credit allows always has room in an outbox */
    :: atomic { nempty(outbox[me]) && nfull(pipe[0]) -> outbox[me] ? _; pipe[0] ! me, 0 }
    od
}

proctype sender(byte me)
{
    byte who, key;

    up[me] = ALL & ~BIT(me);
    do
    :: { sender_loop() } unless { killed[me] };
        atomic {
            do :: outbox[me] ? _ :: empty(outbox[me]) -> break od;
            sent[me] = 0;
            waits_for[me] = NO_KEY;
            up[me] = 0;
            who = 0; key = 0;
            zombie[me] = true
        }
        atomic { forked[me] -> forked[me] = false }
    od
}

active proctype at_rest()
{
    byte i;

    atomic { run sender(1); if :: W > 2 -> run sender(2) :: else fi }
    timeout ->
    atomic {
        assert(!congested[SLOT] && !scarce);
        for (i : 0 .. W - 1) { assert(state[i] == RUNNING && empty(pipe[i])) }
        for (i : 1 .. W - 1) { assert(waits_for[i] == NO_KEY && messages[i] == 0) }
    }
}
