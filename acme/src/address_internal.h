/*
 * address_internal.h - which addresses are on the public Internet, and the rate-limit key of one.
 */
#ifndef ACME_ADDRESS_INTERNAL_H
#define ACME_ADDRESS_INTERNAL_H

#include <stdbool.h>

#include <sys/socket.h>

/**
 * False for loopback, private, link-local, shared, multicast, unspecified and
 * every other special-purpose address (RFC 6890 and its IANA registries), also
 * when it is an IPv4 address inside an IPv6 one, and for other families.
 */
bool acme_address_is_public(const struct sockaddr *address);

#define ACME_ADDRESS_MAX 63 /* characters */

/** The rate-limit key of a peer address: the IPv4 address, or the /64 of an IPv6 one. */
void acme_limit_address(const char *peer, char out[ACME_ADDRESS_MAX + 1]);

#endif
