/*
 * address.h: where a hub is, as people write it, for the hub, the library, the commands and the benchmark alike:
 *
 *     HOST:PORT   HOST   PORT   :PORT   [IPV6]:PORT   [IPV6]
 *
 * HOST is a name or an IPv4 address. An IPv6 address stands in brackets, since it has colons itself; it may have a
 * zone, as in fe80::1%eth0. PORT is a decimal number up to 65535 or the name of a service. Digits alone are a PORT.
 *
 * The system's own functions take more than that, and not as it was meant: getaddrinfo(3) takes 99999 for port 34463
 * and nothing at all for port 0. So nothing reaches them that was not judged here.
 *
 * Everything here is a pure function of its arguments: what a name stands for is not looked up. It is all in the
 * header, so that librelayhub.a has no names but its own.
 */
#ifndef RELAYHUB_ADDRESS_H
#define RELAYHUB_ADDRESS_H

#include <arpa/inet.h>
#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define ADDRESS_DEFAULT_PORT "7411"
#define ADDRESS_HOST_SIZE 256u /* each with its final zero */
#define ADDRESS_PORT_SIZE 64u
#define ADDRESS_PORT_MAX 65535u

struct address {
    char host[ADDRESS_HOST_SIZE]; /* without brackets; empty: none was named */
    char port[ADDRESS_PORT_SIZE]; /* empty: none was named */
};

/* True when the text is one or more decimal digits. */
static inline bool address_is_number(const char *text)
{
    return text[0] != '\0' && text[strspn(text, "0123456789")] == '\0';
}

/* True when the text has at least one character, and all are visible ones that names have. */
static inline bool address_is_word(const char *text)
{
    size_t length = 0;

    while (text[length] > ' ' && text[length] <= '~' && strchr("[]:/", text[length]) == NULL)
        length++;
    return length > 0 && text[length] == '\0';
}

static inline bool address_is_ipv6(const char *text)
{
    char number[INET6_ADDRSTRLEN];
    struct in6_addr binary;
    size_t length = strcspn(text, "%");

    if (length >= sizeof number || (text[length] == '%' && !address_is_word(text + length + 1)))
        return false;
    memcpy(number, text, length);
    number[length] = '\0';
    return inet_pton(AF_INET6, number, &binary) == 1;
}

/*
 * Reads a host that stands for itself, where an IPv6 address needs no brackets but may have them. False, and
 * no meaning in `host`, when it is none.
 */
static inline bool address_read_host(char host[ADDRESS_HOST_SIZE], const char *text, size_t length)
{
    bool brackets = length >= 2 && text[0] == '[' && text[length - 1] == ']';

    if (brackets) {
        text++;
        length -= 2;
    }
    if (length >= ADDRESS_HOST_SIZE)
        return false;
    memcpy(host, text, length);
    host[length] = '\0';
    return brackets || strchr(host, ':') != NULL ? address_is_ipv6(host) : address_is_word(host);
}

/* The same for a port. */
static inline bool address_read_port(char port[ADDRESS_PORT_SIZE], const char *text)
{
    /* A sign in front of a number is in no service's name, but getaddrinfo(3) takes it. */
    if (strlen(text) >= ADDRESS_PORT_SIZE || !address_is_word(text) || !isalnum((unsigned char)text[0]))
        return false;
    if (address_is_number(text) && strtoul(text, NULL, 10) > ADDRESS_PORT_MAX)
        return false;
    memcpy(port, text, strlen(text) + 1);
    return true;
}

/* Reads any of the forms above. False, and no meaning in *address, when it is none. */
static inline bool address_read(struct address *address, const char *text)
{
    *address = (struct address){0};
    if (address_is_number(text))
        return address_read_port(address->port, text);
    size_t length = strcspn(text, text[0] == '[' ? "]" : ":");
    if (text[length] == ']')
        length++;
    if (length == 0 ? text[0] == '\0' : !address_read_host(address->host, text, length))
        return false;
    return text[length] == '\0' || (text[length] == ':' && address_read_port(address->port, text + length + 1));
}

#endif
