/*
 * harness.h: a real relayhubd, and raw clients of it, for the integration tests.
 *
 * Every wait has a deadline; when it is over, or something is not as expected, the test fails and shows
 * what the hub logged. The environment names the program: RELAYHUBD. RELAYHUB_WRAPPER may name a command
 * that runs it, such as valgrind; all deadlines are then longer.
 */
#ifndef RELAYHUB_HARNESS_H
#define RELAYHUB_HARNESS_H

#include "../run_case.h"
#include "protocol/frame.h"

#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define WORKERS_MOST 8
#define PATIENCE 30000 /* milliseconds that anything may take, on a machine that is busy with something else */

/* ---- the hub ---- */

struct hub {
    pid_t pid;
    int log; /* its standard error */
    char text[1 << 16];
    size_t length;    /* of all that it has logged: a place in the log stays valid */
    size_t forgotten; /* this much of it stood before what is in the text */
    int port;
    unsigned workers;
    size_t starts_end;                  /* where the last line of a start was noted, from the first byte on */
    pid_t worker_process[WORKERS_MOST]; /* as the last of these lines said */
};

/*
 * Starts a hub on a free port of 127.0.0.1 with this many workers and further arguments, the last NULL, and
 * waits until it is ready.
 */
void hub_start(struct hub *hub, unsigned workers, ...) __attribute__((sentinel));

/* What is done in the process that becomes the hub, before it does; NULL: nothing. */
extern void (*hub_prepare)(void);

/* As hub_start(), with all arguments given but --foreground. Does not wait. */
void hub_spawn(struct hub *hub, char *const arguments[]);

/* Reads what the hub has logged by now. Returns the text from this byte of the log on, or what is kept of it. */
const char *hub_log(struct hub *hub, size_t from);

/* Waits until a line of the log contains `text`, from this byte of the log on. Returns its start. */
const char *hub_await(struct hub *hub, const char *text, size_t from);

/* The process id of a worker, of its latest successor if it was replaced. */
pid_t hub_worker(struct hub *hub, unsigned index);

/* A fresh value of the statistics. */
uint64_t hub_statistic(struct hub *hub, const char *name);

/*
 * Has the hub change to the program that is there now. On a slow machine a step may take longer than the hub allows,
 * and it goes on as before: then it is asked again.
 */
void hub_upgrade(struct hub *hub);

/* Waits until the value of the statistics is `wanted`. */
void hub_await_statistic(struct hub *hub, const char *name, uint64_t wanted);

/* Ends the hub with SIGTERM and checks that it ends with status 0 and leaves no process behind. */
void hub_stop(struct hub *hub);

/* Waits for its end and returns the status of waitpid(2). */
int hub_wait(struct hub *hub);

/* Waits for its end, which has to be a regular one with this exit status. */
void hub_await_end(struct hub *hub, int status);

/* A hub that is started with these arguments logs the reason and ends with this exit status. */
void expect_start_to_fail(struct hub *hub, char *const arguments[], int status, const char *reason);

/* `count` fresh clients (2 to 8) get messages from one another. */
void expect_service(const struct hub *hub, unsigned count);

/* Seconds of processor time that a process has used. */
double process_time(pid_t pid);

/* A number of /proc/PID/status, such as VmSize. */
uint64_t process_status(pid_t pid, const char *name);

/* Milliseconds of a clock that only goes forward. */
int64_t now_ms(void);

/* `milliseconds` on this machine, more under RELAYHUB_WRAPPER. */
int patient(int milliseconds);

/* ---- clients ---- */

struct client {
    int fd;
    uint64_t id;       /* after client_identity() */
    uint64_t messages; /* how many client_message() sent: the number of the next */
};

/* A frame that came. The body is in a static buffer that the next one overwrites. */
struct frame {
    enum frame_type type;
    unsigned count;
    uint32_t length;
    uint64_t ids[FRAME_MAX_IDS];
    const uint8_t *body;
};

void client_open(struct client *client, const struct hub *hub);        /* and asks for its id */
void client_open_silent(struct client *client, const struct hub *hub); /* and says nothing */
void client_close(struct client *client);
void client_reset(struct client *client); /* closes with a reset */

/* Which of this many workers a client has, in a hub with the default maximum of connections. */
unsigned client_worker(const struct client *client, unsigned workers);

void client_send(const struct client *client, const void *bytes, size_t length); /* all of it */
void client_request(const struct client *client, enum frame_type type);
void client_message(struct client *client, const uint64_t *receivers, unsigned count, const void *body,
                    uint32_t length);
void client_message_to(struct client *client, const struct client *receiver, const char *text);

/* The size of a MESSAGE and its bytes at `frame`, for tests that send it in their own way. */
size_t make_message(uint8_t *frame, const uint64_t *receivers, unsigned count, const void *body, uint32_t length);

/* The next frame. */
void client_receive(const struct client *client, struct frame *frame);

/* The next frame has to be this. */
void expect_message(const struct client *client, const struct client *sender, const void *body, uint32_t length);
void expect_text(const struct client *client, const struct client *sender, const char *text);
void expect_undelivered(const struct client *client, uint64_t receiver, uint64_t number);
void expect_error(const struct client *client, const char *reason); /* NULL: any */
void expect_close(const struct client *client);                     /* an end or a reset, and nothing before */
void expect_end(const struct client *client);                       /* an end, no reset */
void expect_nothing(const struct client *client);                   /* once an answer of the hub went by */

/* True when nothing can be read for `milliseconds`. */
bool is_silent(const struct client *client, int milliseconds);

/* All ids of a LIST, allocated. */
uint64_t *client_list(const struct client *client, size_t *count);

/* Runs all tests of a case with each number of workers in harness_workers[_i]. */
extern const unsigned harness_workers[];
#define WORKER_COUNTS 3 /* 1, 2 and 4 */

#endif
