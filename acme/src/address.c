/* address.c - public Internet addresses, and the rate-limit key of an address. */
#include "address_internal.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <arpa/inet.h>
#include <netinet/in.h>

struct block4 {
    uint8_t prefix[4];
    unsigned bits;
};

struct block6 {
    uint8_t prefix[16];
    unsigned bits;
};

/* IANA IPv4 Special-Purpose Address Registry, and multicast. */
static const struct block4 special4[] = {
    {{0, 0, 0, 0}, 8}, /* "this network" */
    {{10, 0, 0, 0}, 8}, /* private, RFC 1918 */
    {{100, 64, 0, 0}, 10}, /* shared, RFC 6598 */
    {{127, 0, 0, 0}, 8}, /* loopback */
    {{169, 254, 0, 0}, 16}, /* link-local */
    {{172, 16, 0, 0}, 12}, /* private */
    {{192, 0, 0, 0}, 24}, /* protocol assignments */
    {{192, 0, 2, 0}, 24}, /* documentation */
    {{192, 88, 99, 0}, 24}, /* 6to4 relays */
    {{192, 168, 0, 0}, 16}, /* private */
    {{198, 18, 0, 0}, 15}, /* benchmarks */
    {{198, 51, 100, 0}, 24}, /* documentation */
    {{203, 0, 113, 0}, 24}, /* documentation */
    {{224, 0, 0, 0}, 4}, /* multicast */
    {{240, 0, 0, 0}, 4}, /* reserved, broadcast */
};

/* Exceptions within 2000::/3, the only global unicast block (RFC 4291 section 2.4). */
static const struct block6 special6[] = {
    {{0x20, 0x01}, 23}, /* protocol assignments, Teredo */
    {{0x20, 0x01, 0x0d, 0xb8}, 32}, /* documentation */
    {{0x20, 0x02}, 16}, /* 6to4: an IPv4 address of the sender's choice */
    {{0x3f, 0xff}, 20}, /* documentation */
};

static const struct block6 global6 = {{0x20}, 3};

/* An IPv4 address in the last four octets: RFC 4291 section 2.5.5.2, RFC 6052 section 2.1. */
static const struct block6 mapped[] = {
    {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 96},
    {{0x00, 0x64, 0xff, 0x9b}, 96},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool
is_in_block(const uint8_t *address, const uint8_t *prefix, unsigned bits)
{
    unsigned rest = bits % 8;

    if (memcmp(address, prefix, bits / 8) != 0)
        return false;
    return rest == 0 || (address[bits / 8] ^ prefix[bits / 8]) >> (8 - rest) == 0;
}

static bool
is_public4(const uint8_t *address)
{
    for (size_t i = 0; i < COUNT(special4); i++) {
        if (is_in_block(address, special4[i].prefix, special4[i].bits))
            return false;
    }
    return true;
}

static bool
is_public6(const uint8_t *address)
{
    for (size_t i = 0; i < COUNT(mapped); i++) {
        if (is_in_block(address, mapped[i].prefix, mapped[i].bits))
            return is_public4(address + 12);
    }
    for (size_t i = 0; i < COUNT(special6); i++) {
        if (is_in_block(address, special6[i].prefix, special6[i].bits))
            return false;
    }
    return is_in_block(address, global6.prefix, global6.bits);
}

bool
acme_address_is_public(const struct sockaddr *address)
{
    struct sockaddr_in in;
    struct sockaddr_in6 in6;

    switch (address->sa_family) {
    case AF_INET:
        memcpy(&in, address, sizeof(in));
        return is_public4((const uint8_t *)&in.sin_addr);
    case AF_INET6:
        memcpy(&in6, address, sizeof(in6));
        return is_public6(in6.sin6_addr.s6_addr);
    default:
        return false;
    }
}

void
acme_limit_address(const char *peer, char out[ACME_ADDRESS_MAX + 1])
{
    struct in6_addr address;
    char text[INET6_ADDRSTRLEN];

    if (inet_pton(AF_INET6, peer, &address) != 1 || IN6_IS_ADDR_V4MAPPED(&address)) {
        snprintf(out, ACME_ADDRESS_MAX + 1, "%s", peer);
        return;
    }
    memset(address.s6_addr + 8, 0, 8); /* one subscriber has a whole /64 to choose from */
    (void)inet_ntop(AF_INET6, &address, text, sizeof(text));
    snprintf(out, ACME_ADDRESS_MAX + 1, "%s/64", text);
}
