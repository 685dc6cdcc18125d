/* test_listening.c: addresses, the configuration file and SIGHUP, the pid file, the background. */
#include "harness.h"

#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct hub hub;
static char folder[] = "/tmp/relayhub-listening-XXXXXX";
static char path[64];

static void write_file(const char *text)
{
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

static void make_folder(void)
{
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/file", folder);
}

static void remove_folder(void)
{
    unlink(path);
    rmdir(folder);
}

START_TEST(test_several_addresses_of_both_families)
{
    char *arguments[] = {"--listen", "127.0.0.1:0", "--listen", "127.0.0.2:0", "--listen", "[::1]:0", NULL};
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct client first, third = {0};
    struct frame frame;

    hub_spawn(&hub, arguments);
    hub_await(&hub, "ready", 0);
    hub.port = atoi(strstr(hub.text, "127.0.0.1:") + 10);
    client_open(&first, &hub);
    address.sin6_port = htons((uint16_t)atoi(strstr(hub.text, "[::1]:") + 6));
    third.fd = socket(AF_INET6, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(third.fd, (struct sockaddr *)&address, sizeof address), 0);
    client_request(&third, FRAME_IDENTITY);
    client_receive(&third, &frame);
    third.id = frame.ids[0];
    client_message_to(&first, &third, "from one family to the other");
    expect_text(&third, &first, "from one family to the other");
    ck_assert_ptr_nonnull(strstr(hub.text, "listening on 127.0.0.2:"));
    hub_stop(&hub);
}
END_TEST

/* A port alone, with and without its colon, is both loopback addresses, and no other. */
static const char *const ports_alone[] = {"0", ":0"};

START_TEST(test_port_alone_is_loopback)
{
    char *arguments[] = {"--listen", (char *)ports_alone[_i], NULL};
    unsigned lines = 0;

    hub_spawn(&hub, arguments);
    hub_await(&hub, "ready", 0);
    for (const char *at = hub.text; (at = strstr(at, "listening on ")) != NULL; at++)
        lines++;
    ck_assert_uint_eq(lines, 2);
    ck_assert_ptr_nonnull(strstr(hub.text, "listening on 127.0.0.1:"));
    ck_assert_ptr_nonnull(strstr(hub.text, "listening on [::1]:"));
    hub_stop(&hub);
}
END_TEST

/* A host alone gets the default port, which another hub may have already: then that is what the hub says. */
START_TEST(test_host_alone_has_the_default_port)
{
    char *arguments[] = {"--listen", "127.0.0.77", NULL};

    hub_spawn(&hub, arguments);
    hub_await(&hub, " on 127.0.0.77:7411", 0);
    kill(hub.pid, SIGTERM);
    hub_wait(&hub);
}
END_TEST

START_TEST(test_all_addresses)
{
    char *arguments[] = {"--listen", "*:0", NULL};

    hub_spawn(&hub, arguments);
    hub_await(&hub, "listening on 0.0.0.0:", 0);
    hub_await(&hub, "listening on [::]:", 0);
    hub_await(&hub, "ready", 0);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_address_in_use)
{
    char text[40];
    static struct hub other;

    hub_start(&hub, 1, NULL);
    snprintf(text, sizeof text, "127.0.0.1:%d", hub.port);
    char *arguments[] = {"--listen", text, NULL};
    hub_spawn(&other, arguments);
    int status = hub_wait(&other);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 69);
    ck_assert_ptr_nonnull(strstr(other.text, "cannot listen on 127.0.0.1:"));
    hub_stop(&hub);
}
END_TEST

START_TEST(test_configuration_file_and_its_reading_again)
{
    struct client client, extra;

    make_folder();
    write_file("# a comment\nworkers 3   # another\n\nidle-timeout 60\nmax-per-address 2\n");
    char *arguments[] = {"--listen", "127.0.0.1:0", "--config", path, NULL};
    hub_spawn(&hub, arguments);
    hub_await(&hub, "ready, 3 workers", 0);
    hub.port = atoi(strstr(hub.text, ".1:") + 3);
    client_open(&client, &hub);
    client_open(&extra, &hub);
    client_open_silent(&extra, &hub);
    expect_error(&extra, "too many connections from your address");

    /* A file with a mistake changes nothing and is named with its line. */
    write_file("idle-timeout 0.3\nworkers many\n");
    kill(hub.pid, SIGHUP);
    hub_await(&hub, "configuration not reread: ", 0);
    hub_await(&hub, "line 2: workers takes a number from 1 to 64, not 'many'", 0);
    client_open_silent(&extra, &hub);
    expect_error(&extra, "too many connections from your address");

    write_file("frame-timeout 0.3\nmax-per-address 0\n");
    kill(hub.pid, SIGHUP);
    hub_await(&hub, "configuration reread", 0);
    client_open(&extra, &hub);
    client_send(&client, "\x60", 1);
    expect_error(&client, "a frame stayed incomplete for too long");
    hub_stop(&hub);
    remove_folder();
}
END_TEST

START_TEST(test_mistakes_in_the_configuration_file)
{
    make_folder();
    char *arguments[] = {"--config", path, NULL};
    write_file("workers 2\ncolour red\n");
    hub_spawn(&hub, arguments);
    int status = hub_wait(&hub);
    ck_assert_int_eq(WEXITSTATUS(status), 64);
    ck_assert_ptr_nonnull(strstr(hub.text, "line 2: there is no option 'colour'"));
    remove_folder();
    hub_spawn(&hub, arguments);
    status = hub_wait(&hub);
    ck_assert_int_eq(WEXITSTATUS(status), 64);
    ck_assert_ptr_nonnull(strstr(hub.text, "--config: cannot read "));
}
END_TEST

START_TEST(test_pid_file_in_the_background)
{
    make_folder();
    pid_t starter = fork();
    if (starter == 0) {
        execl(getenv("RELAYHUBD"), "relayhubd", "--listen", "127.0.0.1:0", "--pid-file", path, NULL);
        _exit(127);
    }
    int status, pid = 0;
    ck_assert_int_eq(waitpid(starter, &status, 0), starter);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0); /* it returns once the hub is ready */
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fscanf(file, "%d", &pid), 1);
    fclose(file);
    ck_assert_int_eq(kill(pid, SIGTERM), 0);
    struct stat gone;
    int64_t end = now_ms() + patient(PATIENCE);
    while ((kill(pid, 0) == 0 || stat(path, &gone) == 0) && now_ms() < end)
        poll(NULL, 0, 20);
    ck_assert_int_ne(stat(path, &gone), 0);
    rmdir(folder);
}
END_TEST

static bool has_ipv6(void)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    bool has = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    close(fd);
    return has;
}

int main(void)
{
    TCase *tests = tcase_create("listening");
    if (has_ipv6()) {
        tcase_add_test(tests, test_several_addresses_of_both_families);
        tcase_add_loop_test(tests, test_port_alone_is_loopback, 0, 2);
    } else {
        fputs("skipped: addresses of IPv6, which is not here\n", stderr);
    }
    tcase_add_test(tests, test_host_alone_has_the_default_port);
    tcase_add_test(tests, test_all_addresses);
    tcase_add_test(tests, test_address_in_use);
    tcase_add_test(tests, test_configuration_file_and_its_reading_again);
    tcase_add_test(tests, test_mistakes_in_the_configuration_file);
    tcase_add_test(tests, test_pid_file_in_the_background);
    return run_case(tests, "listening");
}
