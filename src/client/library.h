/*
 * library.h: the connection, its failures and its time: what the parts of librelayhub share. Each of them uses only
 * those below it:
 *
 *     library_calls.c: what relayhub(3) describes
 *     library_connect.c: from a name to a socket, and another connection after the end of one
 *     library_io.c: bytes and frames, and the one loop in which a call waits
 *     library_threads.c: the lock of a connection that two threads use, and what ends a wait from outside
 *     library.c: a connection's birth and end, its failures and its time
 *
 * A connection has three buffers. `in` holds bytes as they came, `kept` holds whole frames that came
 * while the caller waited for something else, `out` holds what the socket has not taken yet. Each is
 * bounded, so a hostile hub cannot make the library grow: `in` by one frame, `kept` by KEPT_MAX, `out`
 * by two frames.
 */
#ifndef RELAYHUB_LIBRARY_H
#define RELAYHUB_LIBRARY_H

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <netdb.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/relayhub.h"
#include "protocol/address.h"
#include "protocol/frame.h"

#define RH_RECEIVE_SIZE (64u << 10) /* how much is read at once when no larger frame is under way */
#define RH_KEPT_MAX (64u << 20)     /* bytes of frames kept for relayhub_receive() */
#define RH_LIST_MAX (1u << 24)      /* ids in a list: as many as a hub has slots */
#define RH_PARTS_MAX 64             /* pieces of a body */
#define RH_PEER_TIMEOUT 30000       /* ms: see relayhub_set_peer_timeout() */
#define RH_CLOSED 1                 /* read_end, write_end: the hub has closed the connection */

/* Bytes from start to end wait, from end to capacity is room. */
struct rh_buffer {
    uint8_t *bytes;
    size_t start;
    size_t end;
    size_t capacity;
};

/* Which thread waits, on a connection that is shared. All waits of another one are RH_RECEIVING. */
enum rh_side { RH_RECEIVING, RH_SENDING, RH_SIDES };

/* Where a connection is that comes again after its end. Without relayhub_set_reconnect() it is always RH_CONNECTED. */
enum rh_stage {
    RH_CONNECTED, /* or at its end, which relayhub_receive() has not told */
    RH_PAUSED,    /* until the next attempt; `fd` is a timer */
    RH_TRYING     /* `fd` is connecting, or connected and has not said the id yet */
};

struct rh_reconnect {
    struct address address; /* as given to relayhub_connect() or relayhub_open() */
    int attempt_ms;         /* and its time, for each address */
    int least_ms, most_ms;  /* of a pause; 0: there is no other connection */
    int pause_ms;           /* of the next pause, before its random part is taken off; 0: least_ms */
    int64_t settled;        /* when the connection has lasted for most_ms; -1: there is none */
    int64_t until;          /* the end of the pause, or of the attempt */
    struct addrinfo *found; /* what the name was looked up to for this attempt */
    struct addrinfo *next;  /* of these, not tried yet */
};

struct relayhub {
    int fd;
    int wake[RH_SIDES]; /* eventfd(2) that ends a wait; the second one is -1 until the connection is shared */
    bool shared;        /* relayhub_share() was called: `lock` is used */
    pthread_mutex_t lock;
    enum rh_stage stage;
    unsigned life; /* counts the connections that this has been */
    struct rh_reconnect reconnect;
    int peer_timeout_ms; /* see rh_guard(); 0: none */
    bool guarded;        /* TCP_USER_TIMEOUT is set */
    int64_t window;      /* while it is: bytes that the hub's system has said it takes, and that are not sent yet */
    int read_end;        /* 0 while the hub may send more; RH_CLOSED, or a negative errno value */
    int write_end;       /* 0 while the hub reads; RH_CLOSED, or a negative errno value */
    bool broken;         /* the hub sent what it may not send: nothing after that has a meaning */
    bool ending;         /* relayhub_shutdown() was called: no more is taken from the caller */
    bool ended;          /* and the socket was shut down, as `out` was empty */

    struct rh_buffer in;
    struct rh_buffer kept;
    struct rh_buffer out;

    uint64_t messages;        /* sent so far, so also the next one's number */
    uint64_t identities_owed; /* answers that the hub owes us */
    uint64_t lists_owed;

    uint64_t ids[FRAME_MAX_IDS]; /* an event's receivers, in host order */
    uint8_t *zero_at;            /* where an event's body got its final zero, NULL without one ... */
    uint8_t zero_was;            /* ... and the byte that belongs there */

    char said[128]; /* the reason in the hub's ERROR, printable */
    char reason[256];
};

/* A connection on a connected stream socket, which it owns from then on. NULL without memory or descriptors. */
struct relayhub *rh_new(int fd);

/* The errno value with which the connection has ended, 0 for an end in good order. */
int rh_end_error(const struct relayhub *connection);

/* The connection has ended: sets the reason for that, whatever it is, and returns -ECONNRESET. */
int rh_ended(struct relayhub *connection);

/* Sets the reason and returns -error. */
int rh_fail(struct relayhub *connection, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

/*
 * A moment on the monotonic clock in milliseconds, -1 for never; how long it is until then, for poll(2); and the
 * earlier one of two.
 */
int64_t rh_deadline(int timeout_ms);
int rh_remaining(int64_t deadline);
int64_t rh_earlier(int64_t one, int64_t other);

/* A random number from 0 to `most`, so that many clients do not all do the same at the same time. */
int rh_random(int most);

/*
 * ---- library_threads.c: one lock for a connection on which one thread sends while another one receives, and what ends
 * a wait from outside. Without relayhub_share() the lock does nothing. Each function of relayhub.h takes the lock. It
 * is released only while the call waits. ----
 */

void rh_lock(struct relayhub *connection);

/* Returns `result`. */
int rh_unlock(struct relayhub *connection, int result);

/* Has the other thread look again at what it waits for. Does nothing on a connection that is not shared. */
void rh_nudge(struct relayhub *connection, enum rh_side side);

/* Takes what ended the wait of this side. True when relayhub_interrupt() did. */
bool rh_interrupted(struct relayhub *connection, enum rh_side side);

/* -EBUSY for what cannot be done on a shared connection, else 0. */
int rh_alone(struct relayhub *connection);

#endif
