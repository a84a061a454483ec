/*
 * conformance_world.h - what the checks of all files share: a running STI-CA and its clients.
 */
#ifndef TEST_CONFORMANCE_WORLD_H
#define TEST_CONFORMANCE_WORLD_H

#include "ca_fixture.h"

#include "conformance.h"

struct conformance_world {
    struct ca_fixture ca;
    struct peer account, stranger;
    struct peer_order valid; /* of the account */
};

extern struct conformance_world world;

/** @param problem  "": no problem document */
void assert_got(const struct got *got, int status, const char *problem);

#endif
