/* attack.c: see attack.h. */
#include "bench/attack.h"

#include "bench/attacker.h"
#include "bench/fail.h"
#include "bench/measure.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_PARTS (sizeof((struct attack_memory *)0)->parts / sizeof(struct part_figures))
#define ALTERNATE_RECEIVERS 16u
#define BRIEF_CLIENTS 64u
#define MIXED_INCOMPLETE 1200u
#define MIXED_SENDERS 20u
#define MIXED_RECEIVERS 200u
#define MEMORY_NS 500000000L /* between two looks at the server's memory */
#define READY_NS (UINT64_C(60) * 1000000000u)

static const struct beside besides[] = {
    {.name = "none", .deliveries = "deliveries"},
    {.name = "flood", .senders = 1, .body = 65536, .deliveries = "deliveries"},
    {.name = "alternate", .senders = 1, .body = 16, .deliveries = "deliveries"},
    {.name = "identity", .attackers = 100, .hub_only = true, .deliveries = "answers"},
    {.name = "list", .attackers = 100, .hub_only = true, .deliveries = "ids in answers"},
    {.name = "undelivered", .attackers = 1, .body = 16, .hub_only = true, .deliveries = "answers"},
    {.name = "connects", .attackers = BRIEF_CLIENTS, .deliveries = "connections"},
    {.name = "stuck", .senders = 20, .receivers = 300, .body = 65536, .deliveries = "deliveries"},
    {.name = "incomplete", .attackers = 800, .body = 1u << 20, .deliveries = "deliveries"},
    {.name = "mixed", .body = 65536, .deliveries = "connections"},
    {.name = "uploads", .attackers = 600, .body = 1u << 20, .deliveries = "deliveries"},
};
const char *const attack_names =
    "none, flood, alternate, identity, list, undelivered, connects, stuck, incomplete, mixed or uploads";

static struct {
    struct part parts[MAX_PARTS];
    pid_t children[MAX_PARTS + 1]; /* the last one looks at the server's memory */
    unsigned count, running;
    struct attack_memory *memory;
} attack;

const struct beside *attack_find(const char *name)
{
    for (size_t i = 0; i < sizeof besides / sizeof *besides; i++)
        if (strcmp(besides[i].name, name) == 0)
            return &besides[i];
    return NULL;
}

static const char *const readers[] = {
    [READER_NEVER] = "never", [READER_SLOW1] = "slow1", [READER_SLOW10K] = "slow10k", [READER_RETURN] = "return"};

enum reader attack_find_reader(const char *name)
{
    for (enum reader i = READER_NEVER; i <= READER_RETURN; i++)
        if (strcmp(readers[i], name) == 0)
            return i;
    return READER_FAST;
}

const char *attack_reader_name(enum reader reader)
{
    return readers[reader];
}

/* ---- what there is to do */

static void add_part(struct part part)
{
    if (part.count > 0)
        attack.parts[attack.count++] = part;
}

/* A part of receivers, and one of clients that send to them. Returns the number of the next receiver. */
static unsigned add_parts(enum reader reader, struct part part)
{
    add_part((struct part){.role = ROLE_RECEIVER,
                           .count = part.receivers,
                           .body = part.body,
                           .first = part.first,
                           .receivers = part.receivers,
                           .fan_out = part.fan_out,
                           .reader = reader});
    add_part(part);
    return part.first + part.receivers;
}

static void plan_mixed(const struct options *options)
{
    unsigned next = add_parts(
        READER_FAST,
        (struct part){
            .role = ROLE_INCOMPLETE, .count = MIXED_INCOMPLETE, .body = 1u << 20, .receivers = 1, .fan_out = 1});
    add_parts(READER_NEVER, (struct part){.role = ROLE_SENDER,
                                          .count = MIXED_SENDERS,
                                          .body = options->body,
                                          .first = next,
                                          .receivers = MIXED_RECEIVERS,
                                          .fan_out = 1});
    add_part((struct part){.role = ROLE_BRIEF, .count = BRIEF_CLIENTS});
}

static void plan(const struct options *options)
{
    const char *name = options->beside->name;
    struct part part = {.role = ROLE_SENDER, .count = options->senders, .body = options->body, .fan_out = 1};
    if (strcmp(name, "flood") == 0) {
        part.fan_out = options->fan_out;
        part.receivers = part.count * part.fan_out;
        part.own = true;
        add_parts(READER_FAST, part);
    } else if (strcmp(name, "alternate") == 0) {
        part.receivers = ALTERNATE_RECEIVERS;
        add_parts(READER_FAST, part);
    } else if (strcmp(name, "stuck") == 0) {
        part.fan_out = options->fan_out;
        part.receivers = options->receivers;
        add_parts(options->reader, part);
    } else if (strcmp(name, "mixed") == 0) {
        plan_mixed(options);
    } else if (strcmp(name, "none") != 0) {
        part.count = options->attackers;
        part.role = strcmp(name, "identity") == 0      ? ROLE_IDENTITY
                    : strcmp(name, "list") == 0        ? ROLE_LIST
                    : strcmp(name, "undelivered") == 0 ? ROLE_LOST
                    : strcmp(name, "connects") == 0    ? ROLE_BRIEF
                    : strcmp(name, "incomplete") == 0  ? ROLE_INCOMPLETE
                                                       : ROLE_UPLOADER;
        part.receivers = part.role == ROLE_INCOMPLETE || part.role == ROLE_UPLOADER ? 1 : 0;
        add_parts(READER_FAST, part);
    }
}

/* ---- processes */

static void pause_for(long ns)
{
    struct timespec time = {.tv_nsec = ns};
    nanosleep(&time, NULL);
}

/* The parts' children do not go on when this process is gone. Returns true in the child. */
static bool start_child(void)
{
    pid_t parent = getpid(), child = fork();
    if (child < 0)
        fail("cannot start a process: %s", strerror(errno));
    if (child > 0) {
        attack.children[attack.running++] = child;
        return false;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(EXIT_FAILURE);
    return true;
}

static _Noreturn void watch_memory(pid_t server)
{
    for (;;) {
        uint64_t now = measure_server_pss(server);
        if (now > attack.memory->memory)
            attack.memory->memory = now;
        pause_for(MEMORY_NS);
    }
}

static struct attack_memory *share_memory(void)
{
    size_t size = sizeof(struct attack_memory);
    void *memory;
    for (unsigned i = 0; i < attack.count; i++)
        size += attack.parts[i].receivers * sizeof(uint64_t);
    memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        fail("not enough memory");
    return memory;
}

/* A process that ends has failed, and has printed why. */
static void look_after_children(void)
{
    for (unsigned i = 0; i < attack.running; i++)
        if (waitpid(attack.children[i], NULL, WNOHANG) != 0)
            fail("what runs beside the pairs has failed");
}

void attack_prepare(const struct options *options)
{
    uint64_t limit = measure_now() + READY_NS;
    plan(options);
    attack.memory = share_memory();
    for (unsigned i = 0; i < attack.count; i++)
        if (start_child())
            attacker_run(options, &attack.parts[i], &attack.memory->parts[i], attack.memory);
    if (options->pid != 0 && start_child())
        watch_memory(options->pid);
    while (attack.memory->ready < attack.count) {
        look_after_children();
        if (measure_now() > limit)
            fail("the server does not take the clients that run beside the pairs");
        pause_for(1000000);
    }
}

void attack_start(void)
{
    attack.memory->started = true;
}

struct attack_figures attack_read(void)
{
    struct attack_figures sum = {.memory = attack.memory->memory};
    look_after_children();
    for (unsigned i = 0; i < attack.count; i++) {
        struct part_figures *part = &attack.memory->parts[i];
        sum.bytes += part->bytes;
        sum.deliveries += part->deliveries;
        sum.closed += part->closed;
        if (part->last > sum.last)
            sum.last = part->last;
    }
    return sum;
}

void attack_end(void)
{
    for (unsigned i = 0; i < attack.running; i++)
        kill(attack.children[i], SIGKILL);
    for (unsigned i = 0; i < attack.running; i++)
        waitpid(attack.children[i], NULL, 0);
    attack.running = 0;
}
