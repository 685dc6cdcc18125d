/*
 * wire.c: a cable between two network interfaces of one namespace, which delays, loses and reorders what passes.
 *
 *     wire A B
 *
 * Each Ethernet frame that arrives at one of them leaves by the other, at once at first. Each line of standard input
 * says how it is from then on:
 *
 *     [forth | back] [delay MS] [jitter MS] [loss PERCENT] [reorder PERCENT]
 *     clear
 *
 * `forth` is from A to B, `back` from B to A; without either it is both. What a line does not name is 0, and 0 in the
 * direction that it does not name. The words mean what they mean to tc-netem(8): a frame waits for the delay, plus or
 * minus up to the jitter, so jitter reorders as well; one that is chosen for reordering goes out at once while others
 * wait. 100 % of loss is a partition. A line that it does not understand ends it; the end of standard input does not.
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
    double due; /* ms */
    size_t size;
    uint8_t bytes[]; /* the kernel's notes first */
};

struct direction {
    int from, to;
    struct conditions conditions;
    struct frame *queue[QUEUE_MOST]; /* the first one is due first */
    unsigned waiting;
};

static struct direction directions[2];

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
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
static void send_frame(const struct direction *direction, const void *bytes, size_t size)
{
    ssize_t sent = send(direction->to, bytes, size, MSG_DONTWAIT);
    need(sent >= 0 || errno == ENETDOWN || errno == ENOBUFS || errno == EAGAIN, "send");
}

/* It goes behind those that are due at the same time. What has no place is lost. */
static void queue_frame(struct direction *direction, const void *bytes, size_t size, double due)
{
    struct frame **place = direction->queue + direction->waiting;

    if (direction->waiting == QUEUE_MOST)
        return;
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

static void send_due(struct direction *direction, double now)
{
    unsigned done = 0;

    for (; done < direction->waiting && direction->queue[done]->due <= now; done++) {
        send_frame(direction, direction->queue[done]->bytes, direction->queue[done]->size);
        free(direction->queue[done]);
    }
    direction->waiting -= done;
    memmove(direction->queue, direction->queue + done, direction->waiting * sizeof *direction->queue);
}

static void receive(struct direction *direction, double now)
{
    static uint8_t bytes[FRAME_MOST];
    const struct conditions *conditions = &direction->conditions;

    for (unsigned i = 0; i < FRAMES_A_TURN; i++) {
        ssize_t size = recv(direction->from, bytes, sizeof bytes, MSG_DONTWAIT | MSG_TRUNC);
        if (size < 0 && (errno == EAGAIN || errno == ENETDOWN))
            return;
        need(size >= 0 && (size_t)size <= sizeof bytes, "recv");
        if (chance(conditions->loss))
            continue;
        double delay = conditions->delay + conditions->jitter * (drand48() * 2 - 1);
        if (delay > 0 && !chance(conditions->reorder))
            queue_frame(direction, bytes, (size_t)size, now + delay);
        else
            send_frame(direction, bytes, (size_t)size);
    }
}

/* ---- what is said to it ---- */

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
    directions[0].conditions = forth ? conditions : (struct conditions){0};
    directions[1].conditions = back ? conditions : (struct conditions){0};
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

/* How long until the next frame is due, rounded up; -1 if none waits. */
static int next_due(void)
{
    double next = 1e300;

    for (unsigned i = 0; i < 2; i++) {
        if (directions[i].waiting > 0 && directions[i].queue[0]->due < next)
            next = directions[i].queue[0]->due;
    }
    double rest = next - now_ms();
    return next == 1e300 ? -1 : rest > 0 ? (int)rest + 1 : 0;
}

int main(int argc, char *argv[])
{
    bool heard = true; /* more may come from standard input */

    if (argc != 3) {
        fputs("usage: wire A B\n", stderr);
        return 2;
    }
    setvbuf(stdin, NULL, _IONBF, 0); /* so that no line is in a buffer which poll does not see */
    srand48((long)now_ms());
    directions[0].from = directions[1].to = open_interface(argv[1]);
    directions[1].from = directions[0].to = open_interface(argv[2]);
    for (;;) {
        struct pollfd polled[] = {{.fd = directions[0].from, .events = POLLIN},
                                  {.fd = directions[1].from, .events = POLLIN},
                                  {.fd = heard ? STDIN_FILENO : -1, .events = POLLIN}};
        need(poll(polled, 3, next_due()) >= 0, "poll");
        for (unsigned i = 0; i < 2; i++) {
            double now = now_ms();
            if (polled[i].revents != 0)
                receive(&directions[i], now);
            send_due(&directions[i], now);
        }
        if (polled[2].revents != 0)
            heard = listen_to_input();
    }
}
