/*
 * peer.h: what hubs say to each other: the two types of frames that are theirs alone, in the grammar of frame.h.
 *
 *     type      count    ids        body
 *     FORWARD   1...255  receivers  sender:8 | number:8 | messages:4 | the messages, as their receivers get them
 *     CONTROL   0...255  see below  kind:1 | what the kind needs
 *
 *     kind          ids        body after the kind
 *     HELLO         none       version:1 | node:2 | workers:1 | worker:1 | slot_bits:1
 *     CLIENTS       none       none; all clients of the worker that says it follow, as JOINED
 *     JOINED        clients    none; each is in its slot now, whoever was there
 *     LEFT          ids        none; the slot of each has no client now
 *     ACKNOWLEDGED  none       serial:8, of the last FORWARD that is delivered to its receivers' workers
 *     UNDELIVERED   receivers  sender:8 | number:8 | messages:4 | about:8
 *     CONGESTED     receivers  none; senders to these must wait
 *     RELIEVED      receivers  none; they need not wait any more
 *
 * HELLO is the first frame of each side of a stream, and no other one is. It is the same in all versions, and says the
 * newest one that its hub speaks: both speak the lower of the two, so a cluster can be upgraded node by node. FORWARDs
 * are numbered from 1 on, on each stream and in each direction: their serial. relayhub-cluster(7) describes the whole.
 *
 * UNDELIVERED says that these receivers do not get `messages` messages of a sender, from its message `number` on. What
 * it is about is one of three:
 *   - a serial: that FORWARD, which is not acknowledged yet. Each FORWARD has one such report at most. The receivers
 * are in the order of the FORWARD's. Its sender is told when the FORWARD is acknowledged. If the stream ends before,
 * the report counts for nothing: the sender is told of the whole FORWARD;
 *   - PEER_ABOUT_EARLIER: a FORWARD of this stream that is acknowledged;
 *   - PEER_ABOUT_ENDED: a FORWARD of an earlier stream between these nodes.
 *
 * As in frame.h, no function here touches a socket, allocates or keeps state: all bytes from another hub are judged
 * here.
 */
#ifndef RELAYHUB_PEER_H
#define RELAYHUB_PEER_H

#include "protocol/frame.h"

#define PEER_VERSION 3u       /* the newest that this program speaks, */
#define PEER_VERSION_LEAST 3u /* and the oldest */
#define PEER_NODE_SHIFT 48u   /* the node of an id is in its upper bits */
#define PEER_WORKERS_MOST 64u
#define PEER_SLOT_BITS_MOST 24u

enum peer_control {
    PEER_HELLO = 1,
    PEER_CLIENTS,
    PEER_JOINED,
    PEER_LEFT,
    PEER_ACKNOWLEDGED,
    PEER_UNDELIVERED,
    PEER_CONGESTED,
    PEER_RELIEVED,
};

/* Who is at the other end of a stream. */
struct peer_hello {
    uint8_t version;
    uint16_t node;     /* 1 to 65535 */
    uint8_t workers;   /* of that hub, and */
    uint8_t worker;    /* which of them has the stream */
    uint8_t slot_bits; /* of its ids, see routes.h */
};

/* The sizes in bytes of what is between the ids and the messages of a FORWARD, and of the bodies of CONTROL frames. */
#define PEER_FORWARD_FIELDS (FRAME_ID_SIZE + FRAME_NUMBER_SIZE + 4u)
#define PEER_HELLO_BODY 7u
#define PEER_ACKNOWLEDGED_BODY 9u
#define PEER_UNDELIVERED_BODY 29u
#define PEER_CONTROL_BODY_MOST PEER_UNDELIVERED_BODY

#define PEER_HELLO_SIZE (FRAME_WORD_SIZE + PEER_HELLO_BODY)

#define PEER_ABOUT_EARLIER UINT64_C(0)
#define PEER_ABOUT_ENDED UINT64_MAX

struct peer_undelivered {
    uint64_t sender;
    uint64_t number; /* of the first message, at its sender */
    uint32_t messages;
    uint64_t about;
};

/* A FORWARD, taken apart. */
struct peer_forward {
    uint64_t sender, number;
    uint32_t messages;
    uint32_t at, length; /* where its messages are: bytes from the start of the frame */
};

static inline uint16_t peer_node(uint64_t id)
{
    return (uint16_t)(id >> PEER_NODE_SHIFT);
}

/* Whether another hub may send a frame that begins with this word. */
bool peer_valid(uint32_t word);

/* The kind of a CONTROL whose body is of `length` bytes and begins at `body`; 0 if its kind or its size is wrong. */
enum peer_control peer_kind(uint32_t word, const uint8_t *body);

/* The size of the body that a CONTROL of this kind has; 0 if there is no such kind. */
uint32_t peer_body_size(enum peer_control kind);

/* Writes the word and the ids of a frame. Returns where its body goes. */
uint8_t *peer_store_head(uint8_t *frame, uint32_t word, const uint64_t *ids);

/* Reads the ids of a frame, up to FRAME_MAX_IDS. Returns how many there are. */
unsigned peer_load_ids(uint64_t *ids, const uint8_t *frame);

/* Takes a whole FORWARD apart, and checks that its messages are what it says. False if they are not. */
bool peer_read_forward(struct peer_forward *forward, const uint8_t *frame);

/* Writes what stands between the receivers and the messages of a FORWARD. */
void peer_store_fields(uint8_t *at, uint64_t sender, uint64_t number, uint32_t messages);

/* Reads the same of a FORWARD that was checked before, without its messages. */
void peer_load_fields(struct peer_forward *forward, const uint8_t *frame);

/*
 * Writes a whole HELLO, of PEER_HELLO_SIZE bytes; reads one, of which hello->version is then the version that both
 * sides speak, if that is PEER_VERSION_LEAST or more. False if it is none.
 */
void peer_store_hello(uint8_t *frame, const struct peer_hello *hello);
bool peer_load_hello(struct peer_hello *hello, const uint8_t *frame);

/* Writes and reads the body of an UNDELIVERED. */
void peer_store_undelivered(uint8_t *body, const struct peer_undelivered *undelivered);
void peer_load_undelivered(struct peer_undelivered *undelivered, const uint8_t *body);

#endif
