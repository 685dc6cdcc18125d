/*
 * floor.c: what the kernel allows: programs that do just the system calls that a load cannot do without, for
 * relayhub-bench to measure like a server.
 *
 *     floor relay      reads into a buffer and writes the same bytes to each receiver: no parsing, no routing
 *     floor requests   reads relayhub's real requests and writes the real deliveries, one writev for each receiver
 *                      and read (more only where there are more pieces than one call takes)
 *     floor accept     accepts, hands the connection to a process that serves it, and answers one IDENTITY
 *     floor pairs      writes what it reads from one connection of a pair to the other, in a bare loop of epoll; the
 *                      first two that connect are a pair, and so on, until one of them closes
 *     floor splice | vmsplice | zerocopy
 *                      as relay, but without a copy through user space: see copy.h
 *
 * It prints "listening on ADDRESS:PORT", where the address is the second argument or 127.0.0.1. The first connection
 * that sends is the sender and all others are its receivers; when it closes, all are closed and the next ones may come.
 * All calls block, so there is no waiting for events either, but for pairs.
 */
#include "copy.h"
#include "protocol/frame.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define READ_SIZE (256u << 10)
#define MAX_CONNECTIONS 300
#define SENDER_ID 1 /* that relayhub-bench expects of a floor */

static struct pollfd connections[MAX_CONNECTIONS]; /* the first one listens */
static nfds_t count;
static uint8_t buffer[READ_SIZE];

static void need(int result, const char *what)
{
    if (result < 0) {
        perror(what);
        exit(EXIT_FAILURE);
    }
}

static int listen_anywhere(const char *where)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    need(fd, "socket");
    need(inet_pton(AF_INET, where, &address.sin_addr) - 1, where);
    need(bind(fd, (struct sockaddr *)&address, size), "bind");
    need(listen(fd, SOMAXCONN), "listen");
    need(getsockname(fd, (struct sockaddr *)&address, &size), "getsockname");
    printf("listening on %s:%u\n", where, ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

/* ---- relaying */

static void accept_all(void)
{
    int on = 1, fd;
    while (poll(connections, 1, 0) == 1 && count < MAX_CONNECTIONS) {
        fd = accept4(connections[0].fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        connections[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
}

/* Waits until one of the connections sends, and takes it out of the receivers. Returns it. */
static int find_sender(void)
{
    char byte;
    for (;;) {
        need(poll(connections, count, -1), "poll");
        accept_all();
        for (nfds_t i = 1; i < count; i++) {
            int fd = connections[i].fd;
            ssize_t n = connections[i].revents != 0 ? recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) : -1;
            if (n < 0 && (connections[i].revents == 0 || errno == EAGAIN))
                continue;
            connections[i--] = connections[--count];
            if (n == 1)
                return fd;
            close(fd);
        }
    }
}

static void relay_bytes(int sender)
{
    ssize_t n;
    while ((n = read(sender, buffer, sizeof buffer)) > 0)
        for (nfds_t i = 1; i < count; i++)
            if (write(connections[i].fd, buffer, (size_t)n) < 0)
                return;
}

/* The way of copy.h that the first argument names. */
static copy_way *way;

static void relay_uncopied(int sender)
{
    int receivers[MAX_CONNECTIONS];
    for (nfds_t i = 1; i < count; i++)
        receivers[i - 1] = connections[i].fd;
    way(sender, receivers, count - 1);
}

/* What one read brought, as pieces of the buffer. */
static struct iovec pieces[IOV_MAX];
static int piece_count;

static void flush_pieces(void)
{
    for (nfds_t i = 1; i < count && piece_count > 0; i++)
        if (writev(connections[i].fd, pieces, piece_count) < 0)
            break;
    piece_count = 0;
}

static void add_piece(uint8_t *at, size_t size)
{
    struct iovec *last = piece_count > 0 ? &pieces[piece_count - 1] : NULL;
    if (last != NULL && (uint8_t *)last->iov_base + last->iov_len == at) {
        last->iov_len += size;
        return;
    }
    if (piece_count == IOV_MAX)
        flush_pieces();
    pieces[piece_count++] = (struct iovec){.iov_base = at, .iov_len = size};
}

/*
 * Turns a request's header into the delivery's in its place, which is never longer. Returns where the frame's
 * part of the header ends, or NULL when it is not all there yet.
 */
static uint8_t *take_header(uint8_t *at, const uint8_t *end, size_t *body)
{
    uint32_t word;
    uint8_t *header;
    if (end - at < (ptrdiff_t)FRAME_WORD_SIZE)
        return NULL;
    word = frame_load_word(at);
    if (end - at < (ptrdiff_t)frame_header_size(word))
        return NULL;
    header = at + frame_header_size(word) - FRAME_DELIVERY_HEADER_SIZE;
    *body = frame_length(word);
    frame_store_word(header, frame_word(FRAME_MESSAGE, 1, frame_length(word)));
    frame_store_id(header + FRAME_WORD_SIZE, SENDER_ID);
    add_piece(header, FRAME_DELIVERY_HEADER_SIZE);
    return header + FRAME_DELIVERY_HEADER_SIZE;
}

static void relay_requests(int sender)
{
    size_t held = 0, body = 0; /* bytes of a header, bytes of the body that are still to come */
    ssize_t n;
    while ((n = read(sender, buffer + held, sizeof buffer - held)) > 0) {
        uint8_t *at = buffer, *end = buffer + held + (size_t)n, *next;
        for (;;) {
            size_t part = body < (size_t)(end - at) ? body : (size_t)(end - at);
            if (part > 0)
                add_piece(at, part);
            at += part;
            body -= part;
            if (body > 0 || (next = take_header(at, end, &body)) == NULL)
                break;
            at = next;
        }
        flush_pieces();
        held = (size_t)(end - at);
        memmove(buffer, at, held);
    }
}

static void relay(int listener, void (*serve)(int sender))
{
    connections[0] = (struct pollfd){.fd = listener, .events = POLLIN};
    for (;;) {
        int sender;
        count = count > 0 ? count : 1;
        sender = find_sender();
        serve(sender);
        close(sender);
        while (count > 1)
            close(connections[--count].fd);
    }
}

/* ---- pairs */

static void pair_watch(int epoll, int fd, int partner)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)(unsigned)fd << 32 | (unsigned)partner};
    need(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

/* The first of a pair waits for the second. */
static void pair_accept(int epoll, int listener)
{
    static int waiting = -1;
    int on = 1, fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (waiting < 0) {
        waiting = fd;
        return;
    }
    pair_watch(epoll, fd, waiting);
    pair_watch(epoll, waiting, fd);
    waiting = -1;
}

/* Returns false when the pair is gone. */
static bool pair_relay(int fd, int partner)
{
    ssize_t n = read(fd, buffer, sizeof buffer);
    if (n > 0 && write(partner, buffer, (size_t)n) == n)
        return true;
    close(fd);
    close(partner);
    return false;
}

static _Noreturn void relay_pairs(int listener)
{
    struct epoll_event events[512];
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    need(epoll, "epoll_create");
    pair_watch(epoll, listener, listener);
    for (;;) {
        int n = epoll_wait(epoll, events, sizeof events / sizeof *events, -1);
        for (int i = 0; i < n; i++) {
            int fd = (int)(events[i].data.u64 >> 32), partner = (int)(events[i].data.u64 & 0xffffffff);
            if (fd == listener)
                pair_accept(epoll, listener);
            else if (!pair_relay(fd, partner))
                break; /* the other events may be of what was closed */
        }
    }
}

/* ---- accepting */

static void hand_off(int channel, int fd)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    char byte = 0;
    struct iovec data = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    need((int)sendmsg(channel, &message, 0), "sendmsg");
}

static int take_over(int channel)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    char byte;
    int fd = -1;
    struct iovec data = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    if (recvmsg(channel, &message, MSG_CMSG_CLOEXEC) <= 0)
        exit(EXIT_SUCCESS);
    if (CMSG_FIRSTHDR(&message) != NULL)
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

/* Each client asks at once, so a blocking read does not wait long; it closes before the next batch is done. */
static _Noreturn void serve_handed(int channel)
{
    uint8_t bytes[FRAME_WORD_SIZE + FRAME_ID_SIZE];
    for (uint64_t id = 1;; id++) {
        int fd = take_over(channel);
        frame_store_word(bytes, frame_word(FRAME_IDENTITY, 1, 0));
        frame_store_id(bytes + FRAME_WORD_SIZE, id);
        if (read(fd, bytes + sizeof bytes - FRAME_WORD_SIZE, FRAME_WORD_SIZE) == (ssize_t)FRAME_WORD_SIZE) {
            frame_store_id(bytes + FRAME_WORD_SIZE, id);
            if (write(fd, bytes, sizeof bytes) < 0)
                perror("write");
        }
        close(fd);
    }
}

static void accept_and_hand_off(int listener)
{
    int ends[2];
    need(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "socketpair");
    pid_t pid = fork();
    need(pid, "fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        close(ends[0]);
        close(listener);
        serve_handed(ends[1]);
    }
    close(ends[1]);
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        hand_off(ends[0], fd);
        close(fd);
    }
}

int main(int argc, char **argv)
{
    const char *work = argc > 1 ? argv[1] : "", *where = argc > 2 ? argv[2] : "127.0.0.1";
    signal(SIGPIPE, SIG_IGN);
    way = strcmp(work, "splice") == 0     ? copy_splice
          : strcmp(work, "vmsplice") == 0 ? copy_vmsplice
          : strcmp(work, "zerocopy") == 0 ? copy_zerocopy
                                          : NULL;
    if (way != NULL)
        relay(listen_anywhere(where), relay_uncopied);
    else if (strcmp(work, "relay") == 0)
        relay(listen_anywhere(where), relay_bytes);
    else if (strcmp(work, "requests") == 0)
        relay(listen_anywhere(where), relay_requests);
    else if (strcmp(work, "pairs") == 0)
        relay_pairs(listen_anywhere(where));
    else if (strcmp(work, "accept") == 0)
        accept_and_hand_off(listen_anywhere(where));
    fprintf(stderr, "usage: floor relay | requests | pairs | accept | splice | vmsplice | zerocopy [ADDRESS]\n");
    return EXIT_FAILURE;
}
