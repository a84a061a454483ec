/*
 * uri_internal.h - a parsed URI as libp11-kit matches it.
 */
#ifndef HSM_URI_INTERNAL_H
#define HSM_URI_INTERNAL_H

#include <p11-kit/uri.h>

#include <hsm/defer.h>
#include <hsm/uri.h>

DEFINE_DEFER(P11KitUri, p11_kit_uri_free)

/** Borrowed, valid until hsm_uri_free(). */
P11KitUri *hsm_uri_p11(const struct hsm_uri *uri);

#endif
