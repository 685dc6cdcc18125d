/*
 * peers.pml: batches that go to another hub: under way, acknowledged, told.
 *
 * A is the worker of the sender, in one hub. X is the worker of the other hub that has the stream from A, and Y the one
 * that has the receiver. X may acknowledge one message at a time, and when it likes: that it waits for more and answers
 * for many at once is one of these orders.
 *
 * X finds out in two ways that a receiver does not get a message:
 *   - as it takes the message. Then it says so before it acknowledges the message (streams_undelivered()). A keeps that
 *     report until the acknowledgement comes, and tells the sender then (unacknowledged_passed());
 *   - later, when Y returns the message. Then X acknowledges all that it has taken, and reports after that
 *     (streams_undelivered_later()). A tells the sender at once, as it owes nothing of that any more. Until the records
 *     are in the pipe X cannot acknowledge, so the report waits. If the message came on an earlier stream, X says that,
 *     and A tells the sender unless it did so when that stream ended.
 * When the stream ends, A tells the senders of all that is not acknowledged (unacknowledged_give_up()), and forgets the
 * reports that it kept. It opens the next stream after that only (streams_end()).
 *
 * The stream may end at any moment, X may die once at any moment, and the receiver may go at any moment. A new stream
 * begins once X has read the old one to its end, as its part of the mirror is free only then.
 *
 * Proved, in each order of steps: no message is delivered twice; no sender is told twice; both only where a stream has
 * ended; and when nobody can do anything any more, each message was delivered, or its sender was told, or the report
 * waits in X for the next stream, or it was lost: on its way when a stream ended, or in X when that died.
 *
 * Not covered: congestion (congestion.pml has the same wake in one hub; between hubs it is polled), the order of
 * messages (a stream and a pipe keep it), several receivers of a batch, and the death of A or Y, with which the sender's
 * or the receiver's connection ends.
 *
 * Mutations: MUTATE_ACK_EARLY (acknowledged before the record is in the pipe), MUTATE_NO_GIVE_UP (the end of a stream
 * tells nobody), MUTATE_TELL_AT_ONCE (A does not keep a report until the acknowledgement), MUTATE_DROP_REPORT (it
 * forgets the report then), MUTATE_LATE_FIRST (X reports later what it has not acknowledged), MUTATE_ANY_STREAM (X does
 * not say that a report is about an earlier stream), MUTATE_NO_PAST (A does not know what it told at the end of a
 * stream), MUTATE_NEXT_EARLY (A opens the next stream before it has told the senders of the old one).
 */
#ifndef MESSAGES
#define MESSAGES 2
#endif
#ifndef STREAMS
#define STREAMS 2
#endif

mtype = { ACKNOWLEDGED, ARRIVAL, EARLIER, ENDED }; /* the last three: UNDELIVERED, and what it is about */

chan forwards[STREAMS] = [MESSAGES] of { byte };      /* from A to X: the message */
chan answers[STREAMS] = [2 * MESSAGES] of { mtype, byte }; /* from X to A: what, and which message */
chan records = [1] of { byte, byte };                 /* from X to Y: the message, its stream */
chan returns = [MESSAGES] of { byte, byte };          /* from Y to X */

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
byte reported;            /* those that X has reported at their arrival; */
byte past;                /* those that it told at the end of a stream; */
byte behind;              /* and has still to tell, with MUTATE_NEXT_EARLY */
byte lost;                /* reports that went down with a stream or with X */

/* X's own memory. */
byte outbox[MESSAGES], outbox_count, outbox_stream[MESSAGES];
byte taken, answered, base; /* of this stream; the first message of it */

#define BIT(m) (1 << (m))

inline tell(m)
{
    told[m]++;
    assert(told[m] <= 1);
    assert(ended || delivered[m] == 0)
}

inline give_up(which)
{
    m = 0;
    do
    :: m < MESSAGES && (which & BIT(m)) -> tell(m); m++
    :: m < MESSAGES && !(which & BIT(m)) -> m++
    :: m == MESSAGES -> break
    od;
    past = past | which;
    which = 0;
    m = 0
}

active proctype A()
{
    byte m;
    mtype what;

    do
    :: atomic { a_open && !broken && sent < MESSAGES ->
        forwards[stream] ! sent;
        owed = owed | BIT(sent);
        sent++ }
    :: atomic { a_open && answers[stream] ? [ACKNOWLEDGED, m] ->
        answers[stream] ? ACKNOWLEDGED, m;
        owed = owed & ~BIT(m);
        if
#ifndef MUTATE_DROP_REPORT
        :: reported & BIT(m) -> tell(m)
        :: !(reported & BIT(m))
#else
        :: skip
#endif
        fi;
        reported = reported & ~BIT(m) }
    :: atomic { a_open && answers[stream] ? [ARRIVAL, m] ->
        answers[stream] ? ARRIVAL, m;
#ifndef MUTATE_TELL_AT_ONCE
        reported = reported | BIT(m)
#else
        tell(m)
#endif
        }
    :: atomic { a_open && answers[stream] ? [EARLIER, m] ->
        answers[stream] ? EARLIER, m;
        tell(m) }
    :: atomic { a_open && answers[stream] ? [ENDED, m] ->
        answers[stream] ? ENDED, m;
        if
#ifndef MUTATE_NO_PAST
        :: past & BIT(m)
        :: !(past & BIT(m)) -> tell(m)
#else
        :: tell(m)
#endif
        fi }
    :: atomic { a_open && broken -> /* what is still in `answers` is not read any more */
        a_open = false;
        ended = true;
        do
        :: answers[stream] ? what, m -> lost = (what == EARLIER || what == ENDED -> lost | BIT(m) : lost)
        :: empty(answers[stream]) -> break
        od;
        reported = 0;
#ifdef MUTATE_NEXT_EARLY
        behind = behind | owed;
        owed = 0;
#endif
#ifdef MUTATE_NO_GIVE_UP
        owed = 0;
#endif
        give_up(owed) }
    :: atomic { behind != 0 -> give_up(behind) }
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

inline acknowledge()
{
    answers[stream] ! ACKNOWLEDGED, base + answered;
    answered++
}

/* The other side may have ended the stream. Then nobody reads this. */
inline report(what, m)
{
    answers[stream] ! what, m;
    lost = (a_open -> lost : lost | BIT(m))
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
            answers[stream] ! ARRIVAL, m
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
        acknowledge() }
    :: atomic { !x_dead && x_open && nempty(returns) && !returns ? [m, eval(stream)] -> /* without a stream it waits */
        returns ? m, from;
#ifdef MUTATE_ANY_STREAM
        report(EARLIER, m);
#else
        report(ENDED, m);
#endif
        m = 0;
        from = 0 }
#ifdef MUTATE_LATE_FIRST
    :: atomic { !x_dead && x_open && returns ? [m, eval(stream)] ->
#else
    :: atomic { !x_dead && x_open && outbox_count == 0 && returns ? [m, eval(stream)] ->
        do
        :: answered < taken -> acknowledge()
        :: answered == taken -> break
        od;
#endif
        returns ? m, from;
        report(EARLIER, m);
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
        :: returns ? m, from -> lost = lost | BIT(m)
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
    byte m, from;

    do
    :: atomic { !broken && a_open && stream + 1 < STREAMS -> broken = true }
    :: atomic { present -> present = false }
    :: break
    od;
    atomic { timeout -> /* nobody can do anything any more */
        do
        :: returns ? m, from -> lost = lost | BIT(m) /* it waits in X for the next stream */
        :: empty(returns) -> break
        od;
        m = 0;
        do
        :: m < sent ->
            assert(delivered[m] + told[m] > 0 || (lost & BIT(m)));
            m++
        :: m == sent -> break
        od }
}
