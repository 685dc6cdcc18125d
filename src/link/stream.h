/*
 * stream.h: one stream between the hub of this link and another one. It carries bytes over NATS, which may lose, repeat
 * and delay them, and gives them on whole and in order, or ends.
 *
 * Each direction has offsets, counted from the beginning of the stream. Who sends keeps its bytes until the other side
 * has given them to its hub, WINDOW at most; then it does not read its hub any more. So a side that does not take
 * anything stops one stream, and nobody else. What has not arrived in RESEND_AFTER is sent again; what does not begin
 * where the last piece ended is dropped, and said to be missing.
 *
 * A stream ends as a whole when the hub of either side ends it. What that hub has sent before arrives first. It also
 * ends when the other node is down (nodes.h).
 *
 * What waits, and what ends the wait:
 *   - a stream that is opened, for an answer: OPENING_MOST, then it is tried again;
 *   - bytes that were sent, for the other hub to take them: the other side says so, or is asked; if no answer comes for
 *     the node timeout, the stream ends. A side that answers and whose hub takes nothing is waited for: that hub's own
 *     limits end its stream (hub/worker/peers.h);
 *   - a stream that is closed here, for the other side to know: GONE, its own CLOSE, or the node timeout;
 *   - a stream that is quiet: it is asked every second whether it is still there. Otherwise one whose end was lost
 *     would stay, and with it what the other hub has in its LIST.
 */
#ifndef RELAYHUB_STREAM_H
#define RELAYHUB_STREAM_H

#include "link/piece.h"
#include "protocol/peer.h"

#define WINDOW (1u << 20)

/* Bytes of a stream between two offsets. */
struct ring {
    uint8_t *bytes; /* [WINDOW], or NULL while there was none yet */
    uint64_t start, end;
};

enum stream_state {
    STREAM_IDLE,    /* there is none */
    STREAM_OPENING, /* this side has a stream of its hub and asks the other side for one */
    STREAM_OPEN,
    STREAM_CLOSING /* this side's hub has ended it: all before the end is still on its way */
};

struct stream_way;

struct stream {
    enum stream_state state;
    unsigned number;
    struct stream_way *way; /* of its node */
    uint64_t incarnation;
    int fd;          /* of the hub, or -1 */
    uint32_t events; /* that epoll watches it for */

    struct ring out;         /* from the hub; from out.start on it is not acknowledged */
    uint64_t sent;           /* up to here it was sent, and is not lost as far as is known, */
    uint64_t arrived;        /* and up to here it is there, but perhaps not given to the hub yet */
    uint64_t progress;       /* milliseconds: when something was acknowledged, or sent again, last */
    uint64_t answered;       /* milliseconds: when a piece came last */
    struct ring in;          /* to the hub: what it has not taken yet */
    uint64_t told, told_end; /* in.start and in.end, as the other side was told last */
    uint64_t end;            /* what the other side sends ends here; UINT64_MAX: not known yet */
    uint64_t asked;          /* milliseconds: the last question, which is OPEN, CLOSE or PIECE_ASK */
    uint64_t since;          /* milliseconds: since when it is in this state */

    bool has_news;               /* bytes came for the hub in this turn, or their end */
    struct stream *next_to_give; /* the next one with such */
};

/* What a stream needs of those around it. */
struct stream_way {
    void *context;
    /* Sends a piece, whose addresses are filled in there. False: it is lost. */
    bool (*send)(void *context, struct piece *piece);
    int epoll;
    unsigned node;     /* for the log */
    uint32_t patience; /* milliseconds without any answer that end a stream */
    uint64_t now;      /* milliseconds */
    struct stream *to_give;
    uint64_t sent_again;                 /* bytes, for the statistics, as the next */
    uint64_t bytes_out, bytes_in, ended; /* and streams that have ended */
};

void stream_init(struct stream *stream, unsigned number, struct stream_way *way);

/*
 * Begins with a connection of the hub, which has said `greeting`, PEER_HELLO_SIZE bytes: that goes first.
 * STREAM_OPENING or STREAM_OPEN.
 */
bool stream_begin(struct stream *stream, struct stream_way *way, enum stream_state state, uint64_t incarnation, int fd,
                  const uint8_t *greeting);

/* The hub has something to say, or takes something again. */
void stream_handle(struct stream *stream, struct stream_way *way, uint32_t events);

/* A piece of this incarnation came. What is in it goes to the hub with streams_give(). */
void stream_take(struct stream *stream, struct stream_way *way, const struct piece *piece);

/* At the end of a turn: gives the hub what came, for all streams of this way. */
void streams_give(struct stream_way *way);

/* Every now and then: sends again what is lost, and acknowledges. */
void stream_look(struct stream *stream, struct stream_way *way);

/* Ends it at once. */
void stream_end(struct stream *stream, struct stream_way *way);

#endif
