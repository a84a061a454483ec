/*
 * lane_module.c - the PKCS#11 module that libp11 is given; see lane_internal.h.
 *
 * libp11 loads modules by path. This one is a socket for the function list of
 * the process that loads it, which sti_lane_bind() plugs in before.
 */
#include <stddef.h>

#include <p11-kit/pkcs11.h>

/* What the process calls before it has libp11 load this. */
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
        return CKR_GENERAL_ERROR; /* loaded by somebody else: there is no token in here */
    *out = bound;
    return CKR_OK;
}
