/*
 * routes.pml: ids, look-ups, and where each message ends.
 *
 * Worker 0 has clients, one after the other, in its only slot; worker 1 has a sender, who learns ids from
 * LIST and goes on to use them. Stands for routes_publish(), routes_withdraw() and routes_has() in routes.c,
 * connection_open(), connection_close() and connection_advance_end() in connection.c, end_input() in
 * input.c, find_connection() in state.h, relay_run(), deliver(), relay_returns(), relay_barrier() and
 * pass_barrier() in relay.c, output_return_all() in output.c, outbox_flush() and outbox_drop() in mailbox.c and
 * forget_worker() in worker.c; master.pml has the master.
 *
 * Proved, with both workers killed at any step, and successors:
 *   - no id is given twice, also when its worker died;
 *   - a message is written to the client that was addressed, never to the slot's next one, at most once,
 *     in the order sent, and not if its sender was told UNDELIVERED;
 *   - when nobody can do anything any more, each message was written, or its sender was told, unless the
 *     sender or the receiver was connected to a worker that died;
 *   - a client that ends its writing side gets all that was sent to it before: once the barriers have
 *     passed, nothing addressed to it can come.
 *
 * Memory orders: spin interleaves whole accesses, as if all were sequentially consistent. It may, because
 *   - an id is stored with release and looked up with acquire; a look-up that still finds an id withdrawn
 *     a moment ago is one of the interleavings here, and find_connection() in its worker has the last word;
 *   - who reads a BARRIER in the pipe sees the id withdrawn that was withdrawn before it was written: a
 *     write(2) and the read(2) of the same pipe are ordered by the kernel;
 *   - the word of a slot is written by its one owner, and read by its successor, which is forked after its death.
 * Not covered: several receivers of one message, ranges or store that
 * run out (the receiver is then closed), a closing deadline that is over before the barriers have passed
 * other than as an ordinary close.
 *
 * Mutations: MUTATE_SAME_TICK (a slot is given out twice in one tick), MUTATE_RESET_FORGETS (the
 * word of a dead worker's slot becomes 0, and its successor runs in the same tick), MUTATE_BY_SLOT
 * (find_connection() compares slots only), MUTATE_NO_RETURN (what finds no client is dropped),
 * MUTATE_NO_BARRIER (a client that ended is closed at once), MUTATE_DRAIN_LATE (forget_worker() lets
 * barriers of the dead pass before it reads what that one wrote), and MUTATE_UP_UNACKED of master.pml.
 */
#define W 2
#ifndef DEATHS
#define DEATHS 2
#endif
#ifndef MORTAL
#define MORTAL 3
#endif
#ifndef MESSAGES
#define MESSAGES 2
#endif
#ifndef CLIENTS
#define CLIENTS 2 /* of worker 0, in all */
#endif
#define IDS (CLIENTS + DEATHS + 1)

#define BIT(i) (1 << (i))
#define ALL (BIT(W) - 1)
#define PIPE_ROOM 1

mtype:record = { DELIVER, UNDELIVERED, BARRIER, BARRIER_PASSED };

/* Shared memory: the word of the slot. An id is its tick here; 0 is none. While the slot is free that of the last. */
byte tick;
bool is_free = true;

chan pipe[W] = [PIPE_ROOM] of { mtype:record, byte, byte }; /* kind, id, message */

/* Worker 0's. */
byte connection;  /* struct connection: id */
bool barriers;    /* it waits for worker 1 */
bool ended;       /* its client has shut its writing side down */
chan queue = [MESSAGES] of { byte, byte };
chan replies = [MESSAGES + CLIENTS] of { mtype:record, byte, byte }; /* the outbox to worker 1 and returns */

/* Worker 1's. */
chan outbox = [MESSAGES + CLIENTS] of { mtype:record, byte, byte };
byte known;       /* an id that its sender learned */

/* The proof's. */
mtype:fate = { UNSENT, UNDER_WAY, WRITTEN, TOLD, SENDER_GONE };
mtype:fate fate[MESSAGES] = UNSENT;
byte sent;            /* messages */
byte target[MESSAGES];
byte clients, here;   /* who is in the slot */
byte who_is[IDS];     /* the client of an id */
bool lost[IDS];       /* its worker died */
bool heard_all[IDS];  /* closed behind its barriers */
byte next_message;    /* written next, or a later one */

inline reset_range(i)
{
    if
    :: i == 0 ->
#ifdef MUTATE_RESET_FORGETS
        tick = 0;
#endif
        is_free = true
    :: else
    fi
}

inline discard(i)
{
    do :: pipe[i] ? _, _, _ :: empty(pipe[i]) -> break od
}

#define reset_holder(i) skip

#include "master.pml"

/* ---- worker 0 ---- */

/* connection_open() and routes_publish() */
inline open_client()
{
    atomic {
        clients++; here = clients;
        new = tick + 1; /* the slot rests until then */
#ifdef MUTATE_SAME_TICK
        new = (tick > 0 -> tick : 1)
#endif
    }
    atomic { tick = new; is_free = false; assert(who_is[new] == 0); who_is[new] = here }
    atomic { connection = new; new = 0 }
}

/* output_return_all() and connection_close() */
inline close_client()
{
    is_free = true;
    atomic {
        do
        :: queue ? new, m -> replies ! UNDELIVERED, new, m
        :: empty(queue) -> break
        od;
        connection = 0; here = 0; barriers = false; ended = false; new = 0; m = 0
    }
}

/* end_input(): the route is withdrawn, then every worker that is up is asked whether all has come. */
inline end_input()
{
    is_free = true;
    atomic {
        ended = true;
        if
        :: (up[0] & BIT(1)) != 0 -> barriers = true; replies ! BARRIER, connection, 0
        :: else
        fi
    }
}

#ifdef MUTATE_BY_SLOT
#define FOUND(wanted) (connection != 0)
#else
#define FOUND(wanted) (connection == wanted)
#endif

/* deliver() and pass_barrier() */
inline take_record()
{
    if
    :: kind == DELIVER && FOUND(new) -> queue ! new, m
    :: kind == DELIVER && !FOUND(new) ->
        assert(!heard_all[new]);
#ifndef MUTATE_NO_RETURN
        replies ! UNDELIVERED, new, m
#endif
    :: kind == BARRIER_PASSED ->
        if
        :: new == connection -> barriers = false
        :: else
        fi
    fi;
    new = 0; m = 0; kind = 0
}

inline write_message()
{
    queue ? new, m ->
        assert(who_is[new] == here);
        assert(fate[m] == UNDER_WAY || fate[m] == SENDER_GONE);
        assert(m >= next_message);
        next_message = m + 1;
        fate[m] = (fate[m] == SENDER_GONE -> SENDER_GONE : WRITTEN);
        new = 0; m = 0
}

inline worker_0_forgets()
{
    up[0] = up[0] & ~BIT(1);
#ifdef MUTATE_DRAIN_LATE
    barriers = false;
    if
    :: ended && len(queue) == 0 -> heard_all[connection] = true; close_client()
    :: else
    fi;
#endif
    do
    :: atomic { pipe[0] ? kind, new, m -> take_record() }
    :: empty(pipe[0]) -> break
    od;
    atomic { do :: replies ? _, _, _ :: empty(replies) -> break od }
    barriers = false;
    answers[0] ! DOWN, 1
}

#ifdef MUTATE_NO_BARRIER
#define ALL_PASSED true
#else
#define ALL_PASSED !barriers
#endif

inline worker_0_loop()
{
    do
    :: channel[0] ? UP, _ -> up[0] = up[0] | BIT(1); answers[0] ! UP, 1
    :: channel[0] ? DOWN, _ -> worker_0_forgets()
    :: atomic { connection == 0 && clients < CLIENTS && HAS_CLIENTS(0) -> skip } open_client()
    :: connection != 0 && !ended -> end_input()
    :: connection != 0 -> close_client()
    :: atomic { connection != 0 && ended && ALL_PASSED && empty(queue) -> heard_all[connection] = true }
        close_client()
    :: atomic { pipe[0] ? kind, new, m -> take_record() }
    :: atomic { write_message() }
    /* relay_returns(): the clients of a worker that is not up are gone with it */
    :: atomic { nempty(replies) && ((up[0] & BIT(1)) == 0 || nfull(pipe[1])) ->
        replies ? kind, new, m;
        if
        :: (up[0] & BIT(1)) != 0 -> pipe[1] ! kind, new, m
        :: else
        fi;
        kind = 0; new = 0; m = 0 }
    od
}

active proctype worker_0()
{
    byte new, m;
    mtype:record kind;

    up[0] = BIT(1);
    do
    :: { worker_0_loop() } unless { killed[0] };
        atomic {
            do :: queue ? _, _ :: empty(queue) -> break od;
            do :: replies ? _, _, _ :: empty(replies) -> break od;
            for (m : 1 .. IDS - 1) { lost[m] = lost[m] || who_is[m] != 0 }
            connection = 0; here = 0; barriers = false; ended = false;
            new = 0; m = 0; kind = 0;
            up[0] = 0;
            zombie[0] = true
        }
        atomic { forked[0] -> forked[0] = false }
    od
}

/* ---- worker 1 ---- */

inline tell(m)
{
    assert(fate[m] != WRITTEN && fate[m] != TOLD);
    fate[m] = (fate[m] == SENDER_GONE -> SENDER_GONE : TOLD)
}

/* relay_run() */
inline send_message()
{
    atomic { has = (!is_free && tick == known); m = sent; sent++; target[m] = known; fate[m] = UNDER_WAY }
    atomic {
        if
        :: has && (up[1] & BIT(0)) != 0 -> outbox ! DELIVER, known, m
        :: else -> tell(m)
        fi;
        has = false; m = 0
    }
}

inline take_reply()
{
    if
    :: kind == UNDELIVERED -> tell(m)
    :: kind == BARRIER && (up[1] & BIT(0)) != 0 -> outbox ! BARRIER_PASSED, new, 0
    :: else
    fi;
    new = 0; m = 0; kind = 0
}

inline worker_1_forgets()
{
    up[1] = up[1] & ~BIT(0);
    do
    :: atomic { pipe[1] ? kind, new, m -> take_reply() }
    :: empty(pipe[1]) -> break
    od;
    atomic {
        do
        :: outbox ? kind, new, m ->
            if
            :: kind == DELIVER -> tell(m)
            :: else
            fi
        :: empty(outbox) -> break
        od;
        kind = 0; new = 0; m = 0
    }
    answers[1] ! DOWN, 0
}

inline worker_1_loop()
{
    do
    :: channel[1] ? UP, _ -> up[1] = up[1] | BIT(0); answers[1] ! UP, 0
    :: channel[1] ? DOWN, _ -> worker_1_forgets()
    :: atomic { sent < MESSAGES && !is_free && known != tick && HAS_CLIENTS(1) -> known = tick }
    :: atomic { sent < MESSAGES && known != 0 } send_message()
    :: atomic { nempty(outbox) && nfull(pipe[0]) -> outbox ? kind, new, m; pipe[0] ! kind, new, m; kind = 0; new = 0; m = 0 }
    :: atomic { pipe[1] ? kind, new, m -> take_reply() }
    od
}

active proctype worker_1()
{
    byte new, m;
    bool has;
    mtype:record kind;

    up[1] = BIT(0);
    do
    :: { worker_1_loop() } unless { killed[1] };
        atomic {
            do :: outbox ? _, _, _ :: empty(outbox) -> break od;
            for (m : 0 .. MESSAGES - 1) {
                if
                :: fate[m] == UNDER_WAY -> fate[m] = SENDER_GONE
                :: else
                fi
            }
            known = 0; has = false; new = 0; m = 0; kind = 0;
            up[1] = 0;
            zombie[1] = true
        }
        atomic { forked[1] -> forked[1] = false }
    od
}

active proctype at_rest()
{
    byte i;

    timeout ->
    atomic {
        for (i : 0 .. W - 1) { assert(state[i] == RUNNING && empty(pipe[i])) }
        for (i : 0 .. MESSAGES - 1) { assert(fate[i] != UNDER_WAY || lost[target[i]]) }
    }
}
