/*
 * piece.h: what links say to each other over NATS: pieces of streams, and who is there. Integers are in network byte
 * order. No function here touches a socket or keeps state; all bytes from NATS are judged here.
 *
 *     a piece:   kind:1 | flags:1 | from:2 | stream:4 | session:8 | to:8 | incarnation:8 | offset:8 | taken:8 |
 *                arrived:8 | bytes
 *     a hello:   kind:1 | version:1 | node:2 | workers:2 | heard:2 | session:8 | started:8 | node:2 | session:8 ...
 *
 * A hello says the newest version that its link speaks, and a later one may add to its end: two links speak the lower
 * of both. This is the first.
 *
 * A session is one run of a link, an incarnation one life of a stream. A piece is for one of each, so what is left over
 * from an earlier one, or is meant for another link that claims the same node, is recognised and dropped.
 *
 * Streams of a pair of nodes are numbered. The node with the lower number opens them. Stream k is between the worker
 * k modulo the number of workers on each side.
 */
#ifndef RELAYHUB_PIECE_H
#define RELAYHUB_PIECE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PIECE_VERSION 1u
#define PIECE_HEADER 56u
#define PIECE_BYTES 12000u /* the most bytes of a stream in one; nats-server spends least on pieces of 8 to 12 KiB */
#define HELLO_HEADER 24u
#define NODES_MOST 64u   /* that one link knows at the same time */
#define STREAMS_MOST 64u /* of a pair of nodes: as many as a hub has workers at most */

enum piece_kind {
    PIECE_HELLO = 1, /* to all: who I am and whom I hear */
    PIECE_BYE,       /* to all, in the form of a hello: I leave */
    PIECE_HERE,      /* to one that is known, in the form of a hello: the way that pieces take is open */
    PIECE_OPEN,      /* begin this stream */
    PIECE_ACCEPT,    /* it has begun here */
    PIECE_DATA,      /* bytes from `offset` on, perhaps none */
    PIECE_CLOSE,     /* nothing comes after `offset` */
    PIECE_GONE       /* there is no such stream here */
};

/* Flags. */
enum {
    PIECE_GAP = 1, /* something before what came last is missing: send again from `arrived` on */
    PIECE_ASK = 2  /* answer with a piece */
};

struct piece {
    enum piece_kind kind;
    uint8_t flags;
    uint16_t from;        /* node */
    uint32_t stream;      /* its number */
    uint64_t session, to; /* of the link that sends it, of the link that it is for */
    uint64_t incarnation;
    uint64_t offset;
    uint64_t taken;   /* up to here the hub has what came, */
    uint64_t arrived; /* and up to here it is here */
    const uint8_t *bytes;
    uint32_t length;
};

struct piece_node {
    uint16_t node;
    uint64_t session;
};

struct hello {
    enum piece_kind kind; /* PIECE_HELLO, PIECE_BYE or PIECE_HERE */
    uint16_t node;
    uint16_t workers; /* of its hub; 0: the hub is not there */
    uint64_t session;
    uint64_t started; /* nanoseconds of CLOCK_REALTIME: of two with the same node the later one leaves */
    unsigned heard;
    struct piece_node others[NODES_MOST];
};

#define HELLO_SIZE_MOST (HELLO_HEADER + NODES_MOST * 10u)

/* Writes the header of a piece, PIECE_HEADER bytes. */
void piece_write(uint8_t *at, const struct piece *piece);

/* Reads a piece of `size` bytes. False if it is none; what its numbers mean is the caller's to judge. */
bool piece_read(struct piece *piece, const uint8_t *at, size_t size);

/* The same for a hello. Returns its size in bytes. */
size_t hello_write(uint8_t *at, const struct hello *hello);
bool hello_read(struct hello *hello, const uint8_t *at, size_t size);

#endif
