/*
 * wire.c: a cable between two network interfaces of one namespace, which delays, loses and reorders what passes.
 *
 *     wire A B
 *
 * Each Ethernet frame that arrives at one of them leaves by the other, at once at first. Each line of standard input
 * says how it is from then on:
 *
 *     [forth | back] [delay MS] [jitter MS] [loss PERCENT] [reorder PERCENT]
 *     [forth | back] clear
 *
 * What a line does not name is 0. `forth` is from A to B, `back` from B to A; without either it is both. The words mean
 * what they mean to tc-netem(8): a frame waits for the delay, plus or minus up to the jitter, so jitter reorders as
 * well; one that is chosen for reordering goes out at once while others wait. 100 % of loss in one direction is a
 * partition in one direction.
 *
 * With each line, and at SIGTERM, it prints what became of the frames since the last one. A line that it does not
 * understand ends it, with status 2; the end of standard input does not.
 *
 * What is one frame here may be many on a real line: veth leaves segmentation and checksums to the other end. The
 * kernel's notes about them (PACKET_VNET_HDR) pass with the frame, so nothing is different for that end.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FRAME_MOST (sizeof(struct virtio_net_hdr) + ETH_HLEN + 65536u)
#define QUEUE_MOST 1000u /* as tc-netem(8) */
#define FRAMES_A_TURN 64u
#define SOCKET_BUFFER (16 << 20)
#define BLANKS " \t\n"

/* Milliseconds, and per cent. */
struct conditions {
    double delay, jitter, loss, reorder;
};

struct frame {
    int64_t due; /* ns */
    size_t size;
    uint8_t bytes[]; /* the kernel's notes first */
};

struct direction {
    const char *name;
    int from, to;
    struct conditions conditions;
    struct frame *queue[QUEUE_MOST]; /* the first one is due first */
    unsigned waiting;
    unsigned long long sent, lost, hurried, overrun;
};

static struct direction directions[2] = {{.name = "forth"}, {.name = "back"}};
static volatile sig_atomic_t ends;

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static bool chance(double percent)
{
    return drand48() * 100 < percent;
}

static void need(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "wire: %s: %s\n", what, strerror(errno));
    exit(EXIT_FAILURE);
}

/* ---- frames ---- */

/* What the other interface does not take is lost: it is down, or has no room. */
static void send_frame(struct direction *direction, const void *bytes, size_t size)
{
    bool sent = send(direction->to, bytes, size, MSG_DONTWAIT) >= 0;

    need(sent || errno == ENETDOWN || errno == ENOBUFS || errno == EAGAIN, "send");
    *(sent ? &direction->sent : &direction->overrun) += 1;
}

/* It goes behind those that are due at the same time. */
static void queue_frame(struct direction *direction, const void *bytes, size_t size, int64_t due)
{
    struct frame **place = direction->queue + direction->waiting;

    if (direction->waiting == QUEUE_MOST) {
        direction->overrun++;
        return;
    }
    struct frame *frame = malloc(sizeof *frame + size);
    need(frame != NULL, "malloc");
    frame->due = due;
    frame->size = size;
    memcpy(frame->bytes, bytes, size);
    for (; place > direction->queue && place[-1]->due > due; place--)
        *place = place[-1];
    *place = frame;
    direction->waiting++;
}

static void send_due(struct direction *direction, int64_t now)
{
    unsigned done = 0;

    for (; done < direction->waiting && direction->queue[done]->due <= now; done++) {
        send_frame(direction, direction->queue[done]->bytes, direction->queue[done]->size);
        free(direction->queue[done]);
    }
    direction->waiting -= done;
    memmove(direction->queue, direction->queue + done, direction->waiting * sizeof *direction->queue);
}

static void take_frame(struct direction *direction, const void *bytes, size_t size, int64_t now)
{
    const struct conditions *conditions = &direction->conditions;
    double delay = conditions->delay + conditions->jitter * (drand48() * 2 - 1);

    if (chance(conditions->loss)) {
        direction->lost++;
    } else if (chance(conditions->reorder)) {
        direction->hurried++;
        send_frame(direction, bytes, size);
    } else if (delay > 0) {
        queue_frame(direction, bytes, size, now + (int64_t)(delay * 1e6));
    } else {
        send_frame(direction, bytes, size);
    }
}

static void receive(struct direction *direction, int64_t now)
{
    static uint8_t bytes[FRAME_MOST];

    for (unsigned i = 0; i < FRAMES_A_TURN; i++) {
        ssize_t size = recv(direction->from, bytes, sizeof bytes, MSG_DONTWAIT | MSG_TRUNC);
        if (size < 0 && (errno == EAGAIN || errno == ENETDOWN))
            return;
        need(size >= 0, "recv");
        errno = EMSGSIZE;
        need((size_t)size <= sizeof bytes, "recv");
        take_frame(direction, bytes, (size_t)size, now);
    }
}

/* ---- what is said to it ---- */

static void report(struct direction *direction)
{
    struct tpacket_stats socket = {0};
    socklen_t size = sizeof socket;

    need(getsockopt(direction->from, SOL_PACKET, PACKET_STATISTICS, &socket, &size) == 0, "PACKET_STATISTICS");
    printf("%s: sent %llu, lost %llu, reordered %llu, no room for %llu\n", direction->name, direction->sent,
           direction->lost, direction->hurried, direction->overrun + socket.tp_drops);
    fflush(stdout);
    direction->sent = direction->lost = direction->hurried = direction->overrun = 0;
}

static bool read_number(struct conditions *conditions, const char *name, const char *number)
{
    char *end;
    double *value = strcmp(name, "delay") == 0     ? &conditions->delay
                    : strcmp(name, "jitter") == 0  ? &conditions->jitter
                    : strcmp(name, "loss") == 0    ? &conditions->loss
                    : strcmp(name, "reorder") == 0 ? &conditions->reorder
                                                   : NULL;

    if (value == NULL || number == NULL)
        return false;
    *value = strtod(number, &end);
    return end != number && *end == '\0' && *value >= 0;
}

static void obey(char *line)
{
    struct conditions conditions = {0};
    const char *word = strtok(line, BLANKS);
    bool forth = word == NULL || strcmp(word, "back") != 0, back = word == NULL || strcmp(word, "forth") != 0;

    for (word = forth && back ? word : strtok(NULL, BLANKS); word != NULL; word = strtok(NULL, BLANKS)) {
        if (strcmp(word, "clear") == 0 || read_number(&conditions, word, strtok(NULL, BLANKS)))
            continue;
        fprintf(stderr, "wire: what is %s?\n", word);
        exit(2);
    }
    for (unsigned i = 0; i < 2; i++) {
        report(&directions[i]);
        if (i == 0 ? forth : back)
            directions[i].conditions = conditions;
    }
}

/* False at the end of standard input. */
static bool listen_to_input(void)
{
    char line[200];

    if (fgets(line, sizeof line, stdin) == NULL)
        return false;
    obey(line);
    return true;
}

/* ---- the loop ---- */

static void on_signal(int number)
{
    (void)number;
    ends = 1;
}

/* Everything that arrives at an interface, but not what leaves by it. */
static int open_interface(const char *name)
{
    const int on = 1, room = SOCKET_BUFFER;
    const struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)if_nametoindex(name)};
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0); /* nothing, until it has its interface */

    need(address.sll_ifindex != 0 && fd >= 0, name);
    need(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) == 0, "PACKET_VNET_HDR");
    need(setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) == 0, "PACKET_IGNORE_OUTGOING");
    need(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room) == 0, "SO_RCVBUFFORCE");
    need(setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room) == 0, "SO_SNDBUFFORCE");
    need(bind(fd, (const struct sockaddr *)&address, sizeof address) == 0, name);
    return fd;
}

/* How long until the next frame is due; NULL if none waits. */
static const struct timespec *next_due(struct timespec *time)
{
    int64_t next = INT64_MAX;

    for (unsigned i = 0; i < 2; i++) {
        if (directions[i].waiting > 0 && directions[i].queue[0]->due < next)
            next = directions[i].queue[0]->due;
    }
    if (next == INT64_MAX)
        return NULL;
    next -= now_ns();
    *time =
        next > 0 ? (struct timespec){.tv_sec = next / 1000000000, .tv_nsec = next % 1000000000} : (struct timespec){0};
    return time;
}

static void turn(const sigset_t *signals)
{
    static bool silent; /* nothing more comes from standard input */
    struct pollfd polled[] = {{.fd = directions[0].from, .events = POLLIN},
                              {.fd = directions[1].from, .events = POLLIN},
                              {.fd = silent ? -1 : STDIN_FILENO, .events = POLLIN}};
    struct timespec time;

    if (ppoll(polled, 3, next_due(&time), signals) < 0) {
        need(errno == EINTR, "ppoll");
        return;
    }
    for (unsigned i = 0; i < 2; i++) {
        int64_t now = now_ns();
        if (polled[i].revents != 0)
            receive(&directions[i], now);
        send_due(&directions[i], now);
    }
    if (polled[2].revents != 0)
        silent = !listen_to_input();
}

int main(int argc, char *argv[])
{
    const struct sigaction action = {.sa_handler = on_signal};
    sigset_t mask, before;

    if (argc != 3) {
        fputs("usage: wire A B\n", stderr);
        return 2;
    }
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigprocmask(SIG_BLOCK, &mask, &before);
    sigaction(SIGTERM, &action, NULL);
    setvbuf(stdin, NULL, _IONBF, 0); /* so that no line is in a buffer which poll does not see */
    srand48((long)now_ns());
    directions[0].from = directions[1].to = open_interface(argv[1]);
    directions[1].from = directions[0].to = open_interface(argv[2]);
    while (!ends)
        turn(&before);
    report(&directions[0]);
    report(&directions[1]);
    return EXIT_SUCCESS;
}
