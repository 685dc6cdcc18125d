/* test_address.c: every form of an address, each limit and one past it, and what the system would take but we do not.
 */
#include "protocol/address.h"

#include "../run_case.h"
#include "client/relayhub.h"

#include <check.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>

#define SIZE_OF(array) (int)(sizeof(array) / sizeof *(array))

static const struct {
    const char *text, *host, *port;
} good[] = {
    {"127.0.0.1:7411", "127.0.0.1", "7411"},
    {"localhost:1", "localhost", "1"},
    {"a.b-c_d.example:65535", "a.b-c_d.example", "65535"},
    {"h:0", "h", "0"},
    {"h:00080", "h", "00080"},
    {"h:http", "h", "http"},
    {"h:3com-tsmux", "h", "3com-tsmux"},
    {"*:7411", "*", "7411"},
    {"*", "*", ""},
    {"localhost", "localhost", ""},
    {"127.0.0.1", "127.0.0.1", ""},
    {":7411", "", "7411"},
    {":http", "", "http"},
    {"7411", "", "7411"},
    {"65535", "", "65535"},
    {"0", "", "0"},
    {"7411x", "7411x", ""},
    {"[::1]:7411", "::1", "7411"},
    {"[::1]:http", "::1", "http"},
    {"[::1]", "::1", ""},
    {"[::]:0", "::", "0"},
    {"[2001:db8::7]:7411", "2001:db8::7", "7411"},
    {"[fe80::1%eth0]:7411", "fe80::1%eth0", "7411"},
    {"[::ffff:192.0.2.1]:7411", "::ffff:192.0.2.1", "7411"},
    {"[1111:2222:3333:4444:5555:6666:255.255.255.255]:1", "1111:2222:3333:4444:5555:6666:255.255.255.255", "1"},
};

START_TEST(test_good)
{
    struct address address;

    ck_assert_msg(address_read(&address, good[_i].text), "\"%s\" is none", good[_i].text);
    ck_assert_str_eq(address.host, good[_i].host);
    ck_assert_str_eq(address.port, good[_i].port);
}
END_TEST

static const char *const bad[] = {
    "",
    ":",
    "::",
    "h:",
    "[::1]:",
    "h:65536",
    "h:99999",
    "h:4294967297",
    "h:18446744073709551617",
    "h:99999999999999999999999999999999",
    "65536",
    ":65536",
    "[::1]:65536",
    "h:-1",
    "h:+80",
    "h: 80",
    "h:80 ",
    "h:80\n",
    "h:-http",
    "h:8:0",
    "h:80:",
    "::1",
    "::1:7411",
    "2001:db8::7",
    "[]",
    "[]:7411",
    "[::1",
    "[::1:7411",
    "::1]:7411",
    "[::1]7411",
    "[::1]]:7411",
    "[[::1]]:7411",
    "[::1] :7411",
    "[localhost]:7411",
    "[127.0.0.1]:7411",
    "[:]:7411",
    "[1]:7411",
    "[::g]:7411",
    "[::1%]:7411",
    "[%eth0]:7411",
    "[fe80::1%a b]:7411",
    "[1111:2222:3333:4444:5555:6666:0255.255.255.255]:1",
    "h ost:7411",
    " h:7411",
    "h\t:7411",
    "h\x7f:7411",
    "h\xc3\xa9:7411",
    "http://h:7411",
    "h/8:7411",
    "a[b]:7411",
};

START_TEST(test_bad)
{
    struct address address;

    ck_assert_msg(!address_read(&address, bad[_i]), "\"%s\" is host \"%s\", port \"%s\"", bad[_i], address.host,
                  address.port);
}
END_TEST

/* Those of a host and of a port as long as they may be, and longer. */
START_TEST(test_lengths)
{
    static char text[1000];
    struct address address;

    for (size_t length = 1; length < 400; length++) {
        memset(text, 'h', length);
        snprintf(text + length, sizeof text - length, ":7411");
        ck_assert_int_eq(address_read(&address, text), length < ADDRESS_HOST_SIZE);
        memset(text, 'p', length + 2);
        text[1] = ':';
        text[length + 2] = '\0';
        ck_assert_int_eq(address_read(&address, text), length < ADDRESS_PORT_SIZE);
        memcpy(text, "[::1%", 5);
        memset(text + 5, 'z', length);
        snprintf(text + 5 + length, sizeof text - 5 - length, "]:7411");
        ck_assert_int_eq(address_read(&address, text), length + 4 < ADDRESS_HOST_SIZE);
        memset(text, '0', length); /* a number, however many zeros it starts with */
        memcpy(text + length, "7", 2);
        ck_assert_int_eq(address_read(&address, text), length + 1 < ADDRESS_PORT_SIZE);
    }
}
END_TEST

/* A host by itself: the same, and an IPv6 address needs no brackets. */
START_TEST(test_host)
{
    static const char *const hosts[][2] = {{"localhost", "localhost"},
                                           {"7411", "7411"},
                                           {"::1", "::1"},
                                           {"[::1]", "::1"},
                                           {"::", "::"},
                                           {"fe80::1%lo", "fe80::1%lo"},
                                           {"127.0.0.1:1", NULL},
                                           {"[h]", NULL},
                                           {"", NULL},
                                           {"[::1]:7411", NULL},
                                           {"a b", NULL},
                                           {"[", NULL},
                                           {"]", NULL},
                                           {"[]", NULL},
                                           {"[[::1]]", NULL},
                                           {"1::2::3", NULL},
                                           {"[::1]x", NULL}};
    char host[ADDRESS_HOST_SIZE];

    for (int i = 0; i < SIZE_OF(hosts); i++) {
        bool is = address_read_host(host, hosts[i][0], strlen(hosts[i][0]));
        ck_assert_msg(is == (hosts[i][1] != NULL), "%s", hosts[i][0]);
        if (is)
            ck_assert_str_eq(host, hosts[i][1]);
    }
}
END_TEST

/* The system's own reading of every port that we take is the number that stands there. */
START_TEST(test_numbers_are_what_the_system_makes_of_them)
{
    char text[16], port[ADDRESS_PORT_SIZE];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | AI_NUMERICHOST}, *found;

    for (unsigned number = 0; number < 200000; number += 97) {
        snprintf(text, sizeof text, "%u", number);
        ck_assert_int_eq(address_read_port(port, text), number <= 65535);
        if (number > 65535)
            continue;
        ck_assert_int_eq(getaddrinfo("127.0.0.1", port, &hints, &found), 0);
        struct sockaddr_in address;
        memcpy(&address, found->ai_addr, sizeof address);
        ck_assert_uint_eq(ntohs(address.sin_port), number);
        freeaddrinfo(found);
    }
}
END_TEST

START_TEST(test_hub_and_clients_agree_on_the_default)
{
    ck_assert_str_eq(ADDRESS_DEFAULT_PORT, RELAYHUB_DEFAULT_PORT);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("address");

    tcase_add_loop_test(tests, test_good, 0, SIZE_OF(good));
    tcase_add_loop_test(tests, test_bad, 0, SIZE_OF(bad));
    tcase_add_test(tests, test_lengths);
    tcase_add_test(tests, test_host);
    tcase_add_test(tests, test_numbers_are_what_the_system_makes_of_them);
    tcase_add_test(tests, test_hub_and_clients_agree_on_the_default);
    return run_case(tests, "address");
}
