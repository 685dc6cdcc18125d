/*
 * peer_frames.h: makes CONTROL frames for other hubs, in the area for replies. One that finds no room ends the stream.
 */
#ifndef RELAYHUB_PEER_FRAMES_H
#define RELAYHUB_PEER_FRAMES_H

#include "hub/worker/peer_state.h"

/*
 * Begins a CONTROL with this word and its ids. Returns its body, which the caller fills before peer_frames_commit(), or
 * NULL if the stream takes nothing more.
 */
uint8_t *peer_frames_begin(struct worker *worker, const struct peer *peer, uint32_t word, const uint64_t *ids);
void peer_frames_commit(struct worker *worker, const struct peer *peer, uint32_t word);

/* One with `count` ids (0 to 255), and nothing but its kind as its body. */
void peer_frames_send(struct worker *worker, const struct peer *peer, enum peer_control kind, const uint64_t *ids,
                      unsigned count);

/* Who this hub is. */
void peer_frames_hello(struct worker *worker, const struct peer *peer);

#endif
