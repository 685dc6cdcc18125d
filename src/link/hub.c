/* hub.c: see hub.h. */
#include "link/hub.h"

#include "hub/common/log.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Milliseconds. */
#define TRY_AGAIN 200u
#define KEPT 3000u

#define PENDING_MOST 16u

void hub_init(struct hub *hub, const char *path, int epoll)
{
    *hub = (struct hub){.path = path, .epoll = epoll};
    for (unsigned i = 0; i < SPARES_MOST; i++)
        hub->spares[i].fd = -1;
}

static void drop(struct spare *spare)
{
    if (spare->fd >= 0)
        close(spare->fd);
    spare->fd = -1;
}

void hub_close(struct hub *hub)
{
    for (unsigned i = 0; i < SPARES_MOST; i++)
        drop(&hub->spares[i]);
}

/* ---- making connections ---- */

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
    return -1;
}

/* That no connection can be made does not mean that there is no hub: the streams that there are go on. */
static bool is_refused(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS || error == ENOSPC;
}

static void note_failure(struct hub *hub, int error, uint64_t now)
{
    bool refused = is_refused(error);

    hub->error = error;
    if (refused && !hub->refused)
        log_line(LOG_WARNING, "no connection to the hub can be made: %s", strerror(error));
    hub->refused = refused;
    if (!refused && (hub->workers != 0 || hub->tried == 0))
        log_line(LOG_WARNING, "the hub is not at %s: %s", hub->path, strerror(error));
    if (!refused)
        hub->workers = 0;
    hub->tried = now;
}

static bool add_spare(struct hub *hub, uint64_t now)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = hub};

    for (unsigned i = 0; i < SPARES_MOST; i++) {
        struct spare *spare = &hub->spares[i];
        if (spare->fd >= 0)
            continue;
        *spare = (struct spare){.fd = connect_to(hub->path), .since = now};
        if (spare->fd >= 0 && epoll_ctl(hub->epoll, EPOLL_CTL_ADD, spare->fd, &event) == 0)
            return true;
        note_failure(hub, errno, now);
        drop(spare);
        return false;
    }
    return false;
}

const char *hub_trouble(const struct hub *hub)
{
    if (hub->strange)
        return "what answers there is no hub that this link understands";
    return hub->error != 0 ? strerror(hub->error) : "it has not answered yet";
}

/* ---- greetings ---- */

static void note_hello(struct hub *hub, const struct peer_hello *hello)
{
    if (hub->node != hello->node || hub->workers != hello->workers)
        log_line(LOG_NOTICE, "the hub is node %u, with %u workers", hello->node, hello->workers);
    hub->node = hello->node;
    hub->workers = hello->workers;
}

/* Reads a greeting, or notices the end. */
static void hear(struct hub *hub, struct spare *spare, uint64_t now)
{
    ssize_t got =
        recv(spare->fd, spare->greeting + spare->greeting_size, PEER_HELLO_SIZE - spare->greeting_size, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) { /* a worker that takes no stream now, or has died: not again at once */
        hub->tried = now;
        drop(spare);
        return;
    }
    spare->greeting_size += (unsigned)got;
    if (spare->greeting_size < PEER_HELLO_SIZE)
        return;
    if (!peer_load_hello(&spare->hello, spare->greeting)) {
        if (!hub->strange)
            log_line(LOG_ERR, "what is at %s is no hub that this link understands", hub->path);
        hub->strange = true;
        hub->workers = 0;
        hub->tried = now;
        drop(spare);
        return;
    }
    hub->strange = false;
    hub->error = 0;
    note_hello(hub, &spare->hello);
}

/* Notices that the hub has ended a connection which has said all that it says at first. */
static void check(struct spare *spare)
{
    uint8_t byte;
    ssize_t got = recv(spare->fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);

    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
        drop(spare);
}

void hub_look(struct hub *hub, uint64_t now)
{
    unsigned pending = 0, ready = 0;

    for (unsigned i = 0; i < SPARES_MOST; i++) {
        struct spare *spare = &hub->spares[i];
        if (spare->fd < 0)
            continue;
        if (spare->greeting_size < PEER_HELLO_SIZE)
            hear(hub, spare, now);
        else
            check(spare);
        if (spare->fd < 0)
            continue;
        if (now - spare->since > KEPT && ready > 0) {
            drop(spare);
            continue;
        }
        pending += spare->hello.version == 0;
        ready += spare->hello.version != 0;
    }
    if (hub->tried != 0 && now - hub->tried < TRY_AGAIN)
        return;
    if (pending + ready == 0 && hub->wanted == 0)
        hub->wanted = 1;
    for (; hub->wanted > 0 && pending < PENDING_MOST && add_spare(hub, now); pending++)
        hub->wanted--;
    hub->wanted = 0;
}

int hub_take(struct hub *hub, unsigned worker, uint8_t greeting[PEER_HELLO_SIZE])
{
    for (unsigned i = 0; i < SPARES_MOST; i++) {
        struct spare *spare = &hub->spares[i];
        if (spare->fd < 0 || spare->hello.version == 0 || spare->hello.worker != worker)
            continue;
        int fd = spare->fd;
        (void)epoll_ctl(hub->epoll, EPOLL_CTL_DEL, fd, NULL);
        memcpy(greeting, spare->greeting, PEER_HELLO_SIZE);
        spare->fd = -1;
        return fd;
    }
    hub->wanted++;
    return -1;
}
