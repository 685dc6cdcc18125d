/* fuzz_address.c: addresses of any bytes: what is taken means what stands there, to us and to the system. */
#include "fuzz.h"

#include "protocol/address.h"

#include <netdb.h>
#include <sys/socket.h>

/* Digits, one by one, up to more than any port. */
static unsigned value_of(const char *digits)
{
    unsigned value = 0;

    for (; *digits >= '0' && *digits <= '9' && value <= ADDRESS_PORT_MAX; digits++)
        value = value * 10 + (unsigned)(*digits - '0');
    return value;
}

static void check_port(const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | AI_NUMERICHOST}, *found;

    REQUIRE(strlen(port) < ADDRESS_PORT_SIZE && strpbrk(port, "[]: \n\t") == NULL);
    bool number = port[strspn(port, "0123456789")] == '\0';
    int result = getaddrinfo("127.0.0.1", port, &hints, &found);
    REQUIRE((result == 0) == number); /* what is no number to us is none to the system either */
    if (result != 0)
        return;
    struct sockaddr_in address;
    memcpy(&address, found->ai_addr, sizeof address);
    REQUIRE(ntohs(address.sin_port) == value_of(port) && value_of(port) <= ADDRESS_PORT_MAX);
    freeaddrinfo(found);
}

static void check_host(const char *host)
{
    REQUIRE(strlen(host) < ADDRESS_HOST_SIZE && strpbrk(host, "[] \n\t") == NULL);
    REQUIRE(strchr(host, ':') == NULL || address_is_ipv6(host));
}

/* Written once more in the longest form, it is the same address. */
static void write_again(const struct address *address)
{
    char text[ADDRESS_HOST_SIZE + ADDRESS_PORT_SIZE + 4];
    struct address again;
    const char *form = strchr(address->host, ':') != NULL ? "[%s]%s%s" : "%s%s%s";

    snprintf(text, sizeof text, form, address->host, address->port[0] != '\0' ? ":" : "", address->port);
    REQUIRE(address_read(&again, text));
    REQUIRE(strcmp(again.port, address->port) == 0 && strcmp(again.host, address->host) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), host[ADDRESS_HOST_SIZE], port[ADDRESS_PORT_SIZE];
    struct address address;

    REQUIRE(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    if (address_read(&address, text)) {
        REQUIRE(address.host[0] != '\0' || address.port[0] != '\0');
        if (address.host[0] != '\0')
            check_host(address.host);
        if (address.port[0] != '\0')
            check_port(address.port);
        write_again(&address);
    }
    if (address_read_host(host, text, strlen(text)))
        check_host(host);
    if (address_read_port(port, text))
        check_port(port);
    free(text);
    return 0;
}
