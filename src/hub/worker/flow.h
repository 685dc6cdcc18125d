/*
 * flow.h: flow control on one page: who waits for what, what ends the wait, and how much each may have.
 *
 * A slow receiver must slow down its own senders, and nobody else. TCP does most of that: the hub stops reading a
 * client, the client's socket fills up, and the client waits. So there is one way to make a sender wait:
 * backpressure_pause() with a key that names the cause. backpressure_wake() of that key lets it go on. A wake may come
 * too often, since the sender asks the same question again. A wake may get lost, since each paused sender is looked at
 * every 100 ms.
 *
 * Each wait ends by a time limit, or by the progress of another one that needs nothing from the waiter:
 *
 *     who waits             for                           what ends it                           after at most
 *     a readable client     its quantum                   all others had theirs                  a round
 *     a sender              a congested receiver          it reads, or is cut off                drain timeout
 *     a sender              itself: it reads no answers   it reads, or is cut off                drain timeout
 *     a sender              another worker's credit       that worker takes records, or dies     worker timeout
 *     a sender              memory for what it sends      memory of others comes back            see "memory"
 *     a sender              a receiver in another hub     RELIEVED, or the stream ends           drain timeout there
 *     a sender              a stream's window             half is acknowledged, or it ends       drain timeout
 *     an incomplete frame   its rest                      it comes, or the client gets ERROR     frame timeout
 *     a congested queue     its socket                    the client reads, or is cut off        drain timeout
 *     a shorter queue       its socket                    the client reads                       forever (*)
 *     a client that ended   what is under way to it       all workers have passed its barrier    drain timeout
 *     a rejected client     its own close                 it closes, or is closed                drain timeout
 *     a record              room in a pipe                that worker reads, or dies             worker timeout
 *     an acknowledgement    more to acknowledge           an eighth of the window, or time       4 ms
 *
 * (*) If somebody waits for memory, it is cut off after the drain timeout as well.
 *
 * The limit of a frame or a congested queue begins again with each progress. A progress that comes later than the limit
 * after the start is the end as well. So these waits last for twice the limit at most. With --slow-receiver refuse no
 * sender waits for a receiver: it is told UNDELIVERED. With cut, the drain timeout is for the sum of all times in
 * which a receiver was congested.
 *
 * The quantum: deficit round robin (Shreedhar and Varghese, "Efficient fair queuing using deficit round robin",
 * IEEE/ACM Transactions on Networking 4(3), 1996; turn.c, output.c). Work is counted in bytes of memory traffic:
 *
 *     an iteration            WORK_TURN for all clients together
 *     a readable client       what the iteration has left, and WORK_LEAST in any case
 *     one that has more       WORK_TURN / n if n have more, and WORK_SHARE in any case; after a pause: WORK_LEAST
 *     the deficit             work beyond the quantum (connection->debt) is paid from the next ones
 *     a queue up to 16 KiB    is written before longer ones, all of it
 *     a longer one            384 KiB a visit; all of them WRITE_TURN an iteration
 *     who fills longer ones   is read again when each was visited once
 *
 * Memory: dynamic thresholds (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches",
 * IEEE/ACM Transactions on Networking 6(2), 1998; room.c). Each may have a part of what is free. So the last part is
 * never taken, and a threshold rises by itself when others give memory back. F is what is free beyond a reserve of 128
 * blocks: for input of this worker's memory, for queues of the worker's that has least. E is what is free of this
 * worker's queue entries, beyond 4,096:
 *
 *     a queue while its socket takes nothing   min(high watermark, F / 16), and E / 16 entries: then it is congested
 *     a queue while its socket takes it        the high watermark
 *     any queue                                --store-share: over that the receiver is cut off at once
 *     the end of congestion                    half of the first, and at most the low watermark
 *     a read                                   min(256 KiB, F / 32). Below a block: one block, of who has nothing yet
 *     an incomplete frame                      its whole size if that is F / 4 at most. Until then it is not read
 *     an answer to LIST                        F
 *     a time limit of who makes no progress    limit * min(1, 2 * free / all), but limit / 16 at least
 *     the same when F or E is 0                50 ms, or 2 s for a frame
 *
 * A sender that waits for memory has no time limit, but those that have memory do: a frame and a queue end by progress
 * or by their limits, which shrink with what is free. The 256 senders that waited the longest look again every 5 ms.
 *
 * Between workers: credit (credit.h). A record costs its bytes, and 512 for each receiver. The receiving worker returns
 * that when it has taken the record; while it has long queues, 256 KiB each time that all of them were visited:
 *
 *     a pair of workers                  store share / 8 / workers, but 64 KiB at least and 512 KiB at most
 *     for a client that sends little     1.25 MiB more, so that a message now and then passes those that flood
 *     to a worker short of entries       64 KiB for a client that sends little, and nothing for others
 *     to a worker that holds our memory  nothing, when 1/16 of it is free and that worker holds half
 *
 * Between hubs: a window and delayed acknowledgement (Clark, RFC 813, 1982; peer_owed.h, peer_taken.h). On a stream
 * PEER_WINDOW may be under way. The other hub acknowledges what is in the pipes of its workers, many messages at once:
 * after an eighth of the window, or 4 ms.
 */
#ifndef RELAYHUB_FLOW_H
#define RELAYHUB_FLOW_H

/*
 * The work of a turn, in bytes of memory traffic: one for each byte that is read or written, and about as many as they
 * cost for other steps. A turn lasts about one or two milliseconds.
 */
#define WORK_TURN (6u << 20)    /* of all clients together */
#define WORK_SHARE (512u << 10) /* of one that goes on in turn */
#define WORK_LEAST (16u << 10)  /* of each one that is ready, however many there are */
#define WORK_QUEUE 1024u        /* a queue entry, or a record for another worker */
#define WORK_WRITE 8192u        /* a queue that has to be written, whatever is in it: a system call */
#define WORK_COMPACT 1024u      /* a queue that is stuck: what is short is copied */
#define WORK_REPLY 160u         /* one of the hub's own frames */
#define WORK_LOOK 128u          /* an entry that is looked at: two cache lines */
#define WRITE_TURN (4u << 20)   /* bytes that are written to large queues */

#endif
