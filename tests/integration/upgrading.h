/*
 * upgrading.h: a hub whose program and configuration can be replaced, and three clients that have to go on. Each test
 * that includes this has its own.
 */
#ifndef RELAYHUB_UPGRADING_H
#define RELAYHUB_UPGRADING_H

#include "harness.h"

#include <dirent.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct hub hub;
static struct client a, b, c;
static char folder[] = "/tmp/relayhub-upgrade-XXXXXX", program[64], configuration[64];

/* ---- a program of its own, that can be replaced ---- */

static inline __attribute__((format(printf, 1, 2))) void shell(const char *format, ...)
{
    char command[4000];
    va_list values;

    va_start(values, format);
    vsnprintf(command, sizeof command, format, values);
    va_end(values);
    ck_assert_int_eq(system(command), 0);
}

static inline void copy_program(const char *from)
{
    shell("cp '%s' '%s.new' && mv '%s.new' '%s'", from, program, program, program);
}

/* The script of a program that passes the check, and then does what follows. The one value is old_program. */
#define PASSES_CHECK "for option; do [ \"$option\" != --check-upgrade ] || exec '%s' \"$@\"; done\n"

static inline __attribute__((format(printf, 1, 2))) void write_script(const char *format, ...)
{
    char fresh[80];
    va_list values;

    snprintf(fresh, sizeof fresh, "%s.new", program);
    FILE *file = fopen(fresh, "w");
    ck_assert_ptr_nonnull(file);
    fputs("#!/bin/sh\n", file);
    va_start(values, format);
    vfprintf(file, format, values);
    va_end(values);
    fputs("\n", file);
    ck_assert_int_eq(fclose(file), 0);
    ck_assert_int_eq(chmod(fresh, 0755), 0);
    ck_assert_int_eq(rename(fresh, program), 0);
}

static inline void configure(const char *text)
{
    FILE *file = fopen(configuration, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    ck_assert_int_eq(fclose(file), 0);
}

static char old_program[1000];

static inline void set_up(void)
{
    strcpy(folder, "/tmp/relayhub-upgrade-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(program, sizeof program, "%s/relayhubd", folder);
    snprintf(configuration, sizeof configuration, "%s/conf", folder);
    snprintf(old_program, sizeof old_program, "%s", getenv("RELAYHUBD"));
    copy_program(old_program);
    setenv("RELAYHUBD", program, 1);
    configure("");
}

static inline void tear_down(void)
{
    setenv("RELAYHUBD", old_program, 1);
    shell("rm -rf '%s'", folder);
}

static inline void start(const char *text)
{
    char *arguments[] = {"--listen", "127.0.0.1:0", "--config", configuration, NULL};

    if (text != NULL) /* else it is configured already */
        configure(text);
    hub_spawn(&hub, arguments);
    hub.port = atoi(strstr(hub_await(&hub, "listening on 127.0.0.1:", 0), ".1:") + 3);
    hub_await(&hub, "ready", 0);
}

/* How often the log has a text by now. */
static inline unsigned logged(const char *text)
{
    unsigned count = 0;
    for (const char *at = hub.text; (at = strstr(at, text)) != NULL; at++)
        count++;
    return count;
}

static inline void expect_upgrade(void)
{
    hub_upgrade(&hub);
}

static inline void expect_no_upgrade(const char *reason)
{
    size_t from = hub.length;
    ck_assert_int_eq(kill(hub.pid, SIGUSR2), 0);
    const char *line = hub_await(&hub, "upgrade given up", from);
    ck_assert_msg(strstr(line, reason) != NULL, "'%s' is not the reason of: %.*s", reason, (int)strcspn(line, "\n"),
                  line);
}

static inline void open_three(void)
{
    client_open(&a, &hub);
    client_open(&b, &hub);
    client_open(&c, &hub);
}

static inline void expect_same_id(const struct client *client)
{
    struct frame frame;
    client_request(client, FRAME_IDENTITY);
    client_receive(client, &frame);
    ck_assert_int_eq(frame.type, FRAME_IDENTITY);
    ck_assert_uint_eq(frame.ids[0], client->id);
}

static inline void expect_all_as_before(void)
{
    size_t count;

    expect_same_id(&a);
    expect_same_id(&b);
    expect_same_id(&c);
    client_message_to(&a, &b, "to b");
    expect_text(&b, &a, "to b");
    client_message_to(&b, &c, "to c");
    expect_text(&c, &b, "to c");
    free(client_list(&a, &count));
    ck_assert_uint_eq(count, 2);
}

/* ---- what it has ---- */

static inline unsigned descriptors_of(pid_t pid)
{
    char path[40];
    unsigned count = 0;

    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *all = opendir(path);
    ck_assert_ptr_nonnull(all);
    while (readdir(all) != NULL)
        count++;
    closedir(all);
    return count;
}

static inline unsigned children_of(pid_t process)
{
    char path[64];
    unsigned count = 0;
    int pid;

    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)process, (int)process);
    FILE *children = fopen(path, "r");
    ck_assert_ptr_nonnull(children);
    while (fscanf(children, "%d", &pid) == 1)
        count++;
    fclose(children);
    return count;
}

#endif
