/*
 * message.h: what links say to each other: through NATS, and as the first bytes of a connection. All bytes from other
 * machines are parsed here. Integers are in network byte order.
 *
 *     version:1 | kind:1 | node:2 | workers:1 | stream:1 | worker:1 | session:8 | age:8
 *     GRANT and CONNECT:  then token:16
 *     GRANT:              then the address, "HOST:PORT" of 1 to 255 bytes, or none for a refusal
 *
 * Streams of a pair of nodes have numbers. The node with the lower number connects. Stream k is between the workers
 * k modulo the number of workers on each side. No function here touches a socket, allocates or keeps state.
 */
#ifndef RELAYHUB_LINK_MESSAGE_H
#define RELAYHUB_LINK_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MESSAGE_VERSION 2u
#define STREAMS_MOST 64u /* of a pair of nodes: as many as a hub has workers at most */
#define TOKEN_SIZE 16u
#define ADDRESS_TEXT 256u /* with its final zero */

enum message_kind {
    MESSAGE_HELLO = 1, /* to all, and the answer to WHO: I am this node */
    MESSAGE_WHO,       /* to a node: which link are you? */
    MESSAGE_STREAM,    /* to a node: may I connect stream `stream` to your worker `worker`? */
    MESSAGE_GRANT,     /* the answer: yes, at this address with this token; or no */
    MESSAGE_CONNECT,   /* the first bytes of a connection: stream `stream`, with this token */
};

struct message {
    enum message_kind kind;
    uint16_t node;   /* of the link that says it */
    uint8_t workers; /* of its hub; 0: the hub is not there */
    uint8_t stream, worker;
    uint64_t session; /* of the link: random, from its start on */
    uint64_t age;     /* of its hub, in milliseconds */
    uint8_t token[TOKEN_SIZE];
    char address[ADDRESS_TEXT]; /* empty: a refusal */
};

#define MESSAGE_HEADER 23u
#define CONNECT_SIZE (MESSAGE_HEADER + TOKEN_SIZE)
#define MESSAGE_MOST (CONNECT_SIZE + ADDRESS_TEXT)

/* Writes a message of up to MESSAGE_MOST bytes. Returns its size. */
size_t message_store(uint8_t *at, const struct message *message);

/* Reads one. False if it is none. Its numbers are in their ranges then, and its address is a host and a port. */
bool message_load(struct message *message, const uint8_t *at, size_t size);

/* Whether two tokens are the same. It takes as long for each, so nobody can measure how much of a guess is right. */
bool token_equal(const uint8_t *one, const uint8_t *other);

#endif
