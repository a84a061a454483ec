/*
 * link_internal.h - Link header fields (RFC 8288).
 */
#ifndef ACME_LINK_INTERNAL_H
#define ACME_LINK_INTERNAL_H

#include <stddef.h>

#include <hsm/status.h>

/**
 * The target of a link with this relation type.
 *
 * @param links  the values of all Link fields, separated by commas; NULL: there are
 * none
 * @param skip   number of links with this type to skip
 * @param url    the text between "<" and ">"; free() it
 * @retval HSM_ERR_NOT_FOUND  there are no more than `skip`
 */
HSM_MUST_CHECK enum hsm_status acme_link_find(const char *links, const char *relation, size_t skip,
                                              char **url);

#endif
