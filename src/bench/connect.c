/* connect.c: see connect.h. */
#include "bench/connect.h"

#include "bench/fail.h"
#include "bench/settings.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#define ANSWER_SECONDS 20

/* Each 127.x.y.z has its own ports, so a machine can have more connections than there are ports. */
static void bind_source(int fd, unsigned source)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    int on = 1;
    address.sin_addr.s_addr = htonl(0x7f010000u + source);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        bench_fail("cannot use another source address: %s", strerror(errno));
}

static int make_socket(const struct settings *settings, unsigned source, int flags)
{
    int on = 1, size = (int)settings->receive_buffer;
    int fd = socket(settings->server.ss_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd < 0)
        bench_fail("cannot make a socket: %s", strerror(errno));
    if (source != 0 && settings->server.ss_family == AF_INET)
        bind_source(fd, source);
    if (size > 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static int connect_to(const struct settings *settings, const struct sockaddr_storage *server, socklen_t size,
                      unsigned source)
{
    const struct timeval limit = {.tv_sec = ANSWER_SECONDS};
    int fd = make_socket(settings, source, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(fd, (const struct sockaddr *)server, size) < 0)
        bench_fail("cannot connect to the server: %s", strerror(errno));
    return fd;
}

int connect_server(const struct settings *settings, unsigned source)
{
    return connect_to(settings, &settings->server, settings->server_size, source);
}

int connect_receiver(const struct settings *settings)
{
    if (settings->far_size == 0)
        return connect_server(settings, 0);
    return connect_to(settings, &settings->far_server, settings->far_size, 0);
}

int connect_begin(const struct settings *settings, unsigned source)
{
    int fd = make_socket(settings, source, SOCK_NONBLOCK);
    if (connect(fd, (const struct sockaddr *)&settings->server, settings->server_size) < 0 && errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return fd;
}

void connect_reset_at_close(int fd)
{
    struct linger linger = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

void connect_need_files(unsigned count)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < count + 64u) {
        limit.rlim_cur = count + 64u;
        if (limit.rlim_max < limit.rlim_cur)
            limit.rlim_max = limit.rlim_cur;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
            bench_fail("%u connections are more files than this process may have open", count);
    }
}

void connect_unblock(int fd)
{
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        bench_fail("cannot unblock a socket: %s", strerror(errno));
}
