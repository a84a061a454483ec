/*
 * lane_module.c - the PKCS#11 module that libp11 is given; see lane_internal.h.
 *
 * libp11 loads modules by path. This module forwards to the function list of the process that loads
 * it, set before by sti_lane_bind().
 */
#include <stddef.h>

#include <p11-kit/pkcs11.h>

/* Called by the process before it has libp11 load this module. */
void sti_lane_bind(CK_FUNCTION_LIST *list);

static CK_FUNCTION_LIST *bound;

void
sti_lane_bind(CK_FUNCTION_LIST *list)
{
    bound = list;
}

CK_RV
C_GetFunctionList(CK_FUNCTION_LIST **out)
{
    if (out == NULL)
        return CKR_ARGUMENTS_BAD;
    if (bound == NULL)
        return CKR_GENERAL_ERROR; /* loaded by another program: it has no token */
    *out = bound;
    return CKR_OK;
}
