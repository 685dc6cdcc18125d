/*
 * peers.pml: batches that go to another hub: under way, acknowledged, told.
 *
 * A is the worker of the sender, in one hub. X is the worker of the other hub that has the stream from A, and Y the one
 * that has the receiver. Stands for peers.c, peer_owed.c, peer_taken.c, peer_input.c, and the part of relay.c that adds
 * records and takes returns. X acknowledges one message at a time, and when it likes: that it waits for more and answers
 * for many at once is one of these orders.
 * The stream may end at any moment, X may die once at any moment, and the receiver may go at any moment. A new stream
 * begins once X has read the old one to its end, as its part of the mirror is free only then.
 *
 * Proved, in each order of steps: no message is delivered twice; no sender is told twice; both only where a stream has
 * ended; and when nobody can do anything any more, each message was delivered, or its sender was told, or the receiver
 * is gone.
 *
 * Not covered: congestion (congestion.pml has the same wake in one hub; between hubs it is polled), the order of
 * messages (a stream and a pipe keep it), several receivers of a batch, and the death of A or Y, with which the sender's
 * or the receiver's connection ends.
 * What comes back to X of a stream that has ended waits for the next one, and says so there: A tells it, but not what it
 * has told at the end of that stream.
 *
 * Mutations: MUTATE_ACK_EARLY (acknowledged before the record is in the pipe), MUTATE_NO_GIVE_UP (the end of a stream
 * tells nobody), MUTATE_NO_MARK (what was told is told again at the end), MUTATE_ANY_STREAM (what comes back to X is told
 * on whichever stream there is, and it does not say that it is of another one), MUTATE_NO_PAST (A does not know what it
 * told at the end of a stream).
 */
#ifndef MESSAGES
#define MESSAGES 2
#endif
#ifndef STREAMS
#define STREAMS 2
#endif

mtype = { ACKNOWLEDGED, UNDELIVERED };

chan forwards[STREAMS] = [MESSAGES] of { byte };       /* from A to X: the message */
chan answers[STREAMS] = [2 * MESSAGES] of { mtype, byte, byte };  /* from X to A: what, which message, and MARKS or ENDED */
chan records = [1] of { byte, byte };                  /* from X to Y: the message, its stream */
chan returns = [MESSAGES] of { byte, byte };           /* from Y to X */

byte stream;              /* the one that A has, or had last */
bool a_open = true;       /* A has not seen its end */
bool x_open = true;       /* X has not read it to its end */
bool broken;              /* it is about to end, for both */
bool ended;               /* one has ended at some time */
bool x_dead, x_died;      /* it is, and it was */

bool present = true;      /* the receiver */
byte sent;                /* by A */
byte delivered[MESSAGES], told[MESSAGES];
byte owed;                /* messages that A keeps, a bit each; */
byte to_tell;             /* and those of them that it tells of at the end, */
byte past;                /* and what it told at an end */

/* X's own memory. */
byte outbox[MESSAGES], outbox_count, outbox_stream[MESSAGES];
byte taken, answered, base; /* of this stream; the first message of it */

#define BIT(m) (1 << (m))
#define MARKS 1 /* it may not be acknowledged */
#define ENDED 2 /* it came on a stream that has ended */

inline tell(m)
{
    told[m]++;
    assert(told[m] <= 1);
    assert(ended || delivered[m] == 0)
}

active proctype A()
{
    byte m, marks;

    do
    :: atomic { a_open && !broken && sent < MESSAGES ->
        forwards[stream] ! sent;
        owed = owed | BIT(sent);
        to_tell = to_tell | BIT(sent);
        sent++ }
    :: atomic { a_open && answers[stream] ? [ACKNOWLEDGED, m, marks] ->
        answers[stream] ? ACKNOWLEDGED, m, marks;
        owed = owed & ~BIT(m);
        to_tell = to_tell & ~BIT(m) }
    :: atomic { a_open && answers[stream] ? [UNDELIVERED, m, marks] ->
        answers[stream] ? UNDELIVERED, m, marks;
        if
#ifndef MUTATE_NO_PAST
        :: marks == ENDED && (past & BIT(m)) -> skip
        :: !(marks == ENDED && (past & BIT(m))) -> tell(m)
#else
        :: tell(m)
#endif
        fi;
#ifndef MUTATE_NO_MARK
        if
        :: marks == MARKS -> to_tell = to_tell & ~BIT(m)
        :: marks != MARKS
        fi
#endif
        }
    :: atomic { a_open && broken -> /* what is still in `answers` is not read any more */
        a_open = false;
        ended = true;
#ifndef MUTATE_NO_GIVE_UP
        m = 0;
        do
        :: m < MESSAGES && (to_tell & BIT(m)) -> tell(m); m++
        :: m < MESSAGES && !(to_tell & BIT(m)) -> m++
        :: m == MESSAGES -> break
        od;
#endif
        owed = 0;
        past = past | to_tell;
        to_tell = 0;
        m = 0 }
    :: atomic { !a_open && !x_open && !x_dead && stream + 1 < STREAMS ->
        stream++;
        base = sent;
        a_open = true;
        x_open = true;
        broken = false;
        taken = 0;
        answered = 0 }
    od
}

/* X takes what is in the stream, also after its other end is gone: the bytes come before the end. */
active proctype X()
{
    byte m, from;

    do
    :: atomic { !x_dead && x_open && outbox_count < MESSAGES && forwards[stream] ? [m] ->
        forwards[stream] ? m;
        taken++;
        if
        :: !present ->
            answers[stream] ! UNDELIVERED, m, MARKS
        :: present ->
            outbox[outbox_count] = m;
            outbox_stream[outbox_count] = stream;
            outbox_count++
        fi;
        m = 0 }
    :: atomic { !x_dead && outbox_count > 0 && nfull(records) ->
        records ! outbox[0], outbox_stream[0];
        outbox_count--;
        outbox[0] = outbox[1];
        outbox_stream[0] = outbox_stream[1];
        outbox[1] = outbox[MESSAGES - 1];
        outbox_stream[1] = outbox_stream[MESSAGES - 1] }
#ifdef MUTATE_ACK_EARLY
    :: atomic { !x_dead && x_open && answered < taken && nfull(answers[stream]) ->
#else
    :: atomic { !x_dead && x_open && answered < taken && outbox_count == 0 && nfull(answers[stream]) ->
#endif
        answers[stream] ! ACKNOWLEDGED, base + answered, 0;
        answered++ }
    :: atomic { !x_dead && x_open && returns ? [m, from] -> /* without a stream it waits */
        returns ? m, from;
        if
#ifdef MUTATE_ANY_STREAM
        :: answers[stream] ! UNDELIVERED, m, (taken != answered -> MARKS : 0)
#else
        :: from == stream -> answers[stream] ! UNDELIVERED, m, (taken != answered -> MARKS : 0)
        :: from != stream -> answers[stream] ! UNDELIVERED, m, ENDED
#endif
        fi;
        m = 0;
        from = 0 }
    :: atomic { !x_dead && x_open && broken && empty(forwards[stream]) -> x_open = false }
    :: atomic { !x_dead && !x_died -> /* its memory is gone, and its end of the stream */
        x_dead = true;
        x_died = true;
        outbox_count = 0;
        broken = true;
        x_open = false;
        taken = 0;
        answered = 0 }
    :: atomic { x_dead && !a_open -> /* a successor */
        do
        :: returns ? m, from
        :: empty(returns) -> break
        od;
        do
        :: forwards[stream] ? m
        :: empty(forwards[stream]) -> break
        od;
        m = 0;
        from = 0;
        x_dead = false }
    od
}

active proctype Y()
{
    byte m, from;

    do
    :: atomic { records ? m, from ->
        if
        :: present ->
            delivered[m]++;
            assert(delivered[m] <= 1);
            assert(ended || told[m] == 0)
        :: !present -> returns ! m, from
        fi;
        m = 0;
        from = 0 }
    od
}

active proctype World()
{
    byte m;

    do
    :: atomic { !broken && a_open && stream + 1 < STREAMS -> broken = true }
    :: atomic { present -> present = false }
    :: break
    od;
    atomic { timeout -> /* nobody can do anything any more */
        do
        :: m < sent ->
            assert(delivered[m] + told[m] > 0 || !present);
            m++
        :: m == sent -> break
        od }
}
