/*
 * x5u_internal.h - the rules of ATIS-1000074 for an x5u, all but which ports.
 */
#ifndef SKS_X5U_INTERNAL_H
#define SKS_X5U_INTERNAL_H

#include <hsm/status.h>

/** https, host, optional port, path; no userinfo, query and fragment. The port is 443 when absent.
 */
HSM_MUST_CHECK enum hsm_status sks_x5u_parse(const char *url, unsigned *port,
                                             struct hsm_reason *why);

#endif
