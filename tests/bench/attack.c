/* attack.c: see attack.h. */
#include "attack.h"

#include "attacker.h"
#include "bench/fail.h"
#include "bench/measure.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_PARTS (sizeof((struct attack_memory *)0)->parts / sizeof(struct part_figures))
#define ALTERNATE_RECEIVERS 16u
#define BRIEF_CLIENTS 64u
#define MIXED_INCOMPLETE 1200u
#define MIXED_SENDERS 20u
#define MIXED_RECEIVERS 200u
#define MEMORY_PAUSE 0.5 /* seconds between two looks at the server's memory */
#define READY_NS (UINT64_C(60) * 1000000000u)

static struct {
    struct part parts[MAX_PARTS];
    pid_t children[MAX_PARTS + 1]; /* the last one looks at the server's memory */
    unsigned count, running;
    struct attack_memory *memory;
} attack;

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

static void plan_mixed(size_t body)
{
    unsigned next = add_parts(
        READER_FAST,
        (struct part){
            .role = ROLE_INCOMPLETE, .count = MIXED_INCOMPLETE, .body = 1u << 20, .receivers = 1, .fan_out = 1});
    add_parts(READER_NEVER, (struct part){.role = ROLE_SENDER,
                                          .count = MIXED_SENDERS,
                                          .body = body,
                                          .first = next,
                                          .receivers = MIXED_RECEIVERS,
                                          .fan_out = 1});
    add_part((struct part){.role = ROLE_BRIEF, .count = BRIEF_CLIENTS});
}

static void plan(const struct attackers *settings)
{
    static const enum role roles[] = {[BESIDE_IDENTITY] = ROLE_IDENTITY,     [BESIDE_LIST] = ROLE_LIST,
                                      [BESIDE_UNDELIVERED] = ROLE_LOST,      [BESIDE_CONNECTS] = ROLE_BRIEF,
                                      [BESIDE_INCOMPLETE] = ROLE_INCOMPLETE, [BESIDE_UPLOADS] = ROLE_UPLOADER};
    const struct settings *base = &settings->base;
    struct part part = {.role = ROLE_SENDER, .count = base->senders, .body = base->body, .fan_out = 1};
    switch (settings->beside) {
    case BESIDE_NONE:
        break;
    case BESIDE_FLOOD:
        part.fan_out = base->fan_out;
        part.receivers = part.count * part.fan_out;
        part.own = true;
        add_parts(READER_FAST, part);
        break;
    case BESIDE_ALTERNATE:
        part.receivers = ALTERNATE_RECEIVERS;
        add_parts(READER_FAST, part);
        break;
    case BESIDE_STUCK:
        part.fan_out = base->fan_out;
        part.receivers = settings->receivers;
        add_parts(settings->reader, part);
        break;
    case BESIDE_MIXED:
        plan_mixed(base->body);
        break;
    default:
        part.count = settings->attackers;
        part.role = roles[settings->beside];
        part.receivers = part.role == ROLE_INCOMPLETE || part.role == ROLE_UPLOADER ? 1 : 0;
        add_parts(READER_FAST, part);
    }
}

/* ---- processes */

/* The parts' children do not go on when this process is gone. Returns true in the child. */
static bool start_child(void)
{
    pid_t parent = getpid(), child = fork();
    if (child < 0)
        bench_fail("cannot start a process: %s", strerror(errno));
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
        measure_pause(MEMORY_PAUSE);
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
        bench_fail("not enough memory");
    return memory;
}

/* A process that ends has failed, and has printed why. */
static void look_after_children(void)
{
    for (unsigned i = 0; i < attack.running; i++)
        if (waitpid(attack.children[i], NULL, WNOHANG) != 0)
            bench_fail("what runs beside the pairs has failed");
}

void attack_prepare(const struct attackers *settings)
{
    uint64_t limit = measure_now() + READY_NS;
    plan(settings);
    attack.memory = share_memory();
    for (unsigned i = 0; i < attack.count; i++)
        if (start_child())
            attacker_run(settings, &attack.parts[i], &attack.memory->parts[i], attack.memory);
    if (settings->base.pid != 0 && start_child())
        watch_memory(settings->base.pid);
    while (attack.memory->ready < attack.count) {
        look_after_children();
        if (measure_now() > limit)
            bench_fail("the server does not take the clients that run beside the pairs");
        measure_pause(0.001);
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
