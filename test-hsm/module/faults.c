/*
 * faults.c - the table of faults of tokens, by number: which functions each strikes, and how.
 *
 * README.md describes them. A fault has one row here for each form it can take.
 */
#include "latency.h"
#include "rules.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum lasting { /* the range from which the time is drawn */
    FOR_NO_TIME,
    FOR_OUTAGE,
    FOR_STUCK,
    FOR_SLOW,
};

struct row {
    unsigned fault;
    enum fault_fn fn;
    enum lasting lasting;
    struct fault_strike strike;
};

#define ANSWER(ckr)         .strike = {.answers = true, .rv = (ckr)}
#define ANSWER_ACTIVE(ckr)  .strike = {.answers = true, .rv = (ckr), .outcome = FAULT_ACTIVE}
#define ANSWER_DONE(ckr)    .strike = {.answers = true, .rv = (ckr), .outcome = FAULT_DONE}
#define EFFECT(what)        .strike = {.effect = (what)}
#define EFFECT_RV(what, rv) .strike = {.effect = (what), .effect_rv = (rv)}
#define DAMAGE(what)        .strike = {.damage = (what)}
#define OBJECTS(what)       .strike = {.objects = (what), .most = 1}
#define ALTER(which, how)   .strike = {.alteration = {.type = (which), .value = (how)}}
#define BOOLEAN(which, yes)                                                                        \
    .strike = {.alteration = {.type = (which), .value = FAULT_OCTETS, .len = 1, .octets = {(yes)}}}
#define DELAY .strike = {.delay_ns = 1} /* the time is drawn */

static const struct row table[] = {
    {1, FN_C_SignInit, ANSWER(CKR_DEVICE_ERROR)},
    {1, FN_C_Sign, ANSWER(CKR_DEVICE_ERROR)},

    {2, FN_C_Sign, ANSWER_ACTIVE(CKR_DEVICE_ERROR)},

    {3, FN_C_SignInit, .strike = {.effect = FAULT_DROP, .answers = true, .rv = CKR_SESSION_CLOSED}},
    {3, FN_C_SignInit, EFFECT(FAULT_DROP)},
    {3, FN_C_Sign, EFFECT(FAULT_DROP)},

    {4, FN_C_SignInit, EFFECT(FAULT_REBOOT)},
    {4, FN_C_SignInit, .strike = {.effect = FAULT_REBOOT, .answers = true, .rv = CKR_DEVICE_ERROR}},
    {4, FN_C_Sign, EFFECT(FAULT_REBOOT)},

    {5, FN_C_SignInit, EFFECT(FAULT_LOGOUT)},

    {6, FN_C_SignInit, EFFECT(FAULT_RENUMBER)},
    {6, FN_C_SignInit,
     .strike = {.effect = FAULT_RENUMBER, .answers = true, .rv = CKR_KEY_HANDLE_INVALID}},

    {7, FN_C_SignInit, FOR_OUTAGE, EFFECT_RV(FAULT_REMOVE, CKR_DEVICE_REMOVED)},
    {7, FN_C_SignInit, FOR_OUTAGE, EFFECT_RV(FAULT_REMOVE, CKR_TOKEN_NOT_PRESENT)},
    {7, FN_C_SignInit, FOR_OUTAGE, EFFECT_RV(FAULT_REMOVE_WITH_SLOT, CKR_SESSION_HANDLE_INVALID)},
    {7, FN_C_Sign, FOR_OUTAGE, EFFECT_RV(FAULT_REMOVE, CKR_DEVICE_REMOVED)},

    {8, FN_C_SignInit, EFFECT(FAULT_FINALIZE)},
    {8, FN_C_Sign, EFFECT(FAULT_FINALIZE)},

    {9, FN_C_OpenSession, ANSWER(CKR_SESSION_COUNT)},
    {9, FN_C_OpenSession, ANSWER(CKR_HOST_MEMORY)},
    {9, FN_C_OpenSession, ANSWER(CKR_DEVICE_MEMORY)},

    {10, FN_C_SignInit, ANSWER(CKR_FUNCTION_FAILED)},
    {10, FN_C_SignInit, ANSWER(CKR_OPERATION_ACTIVE)},
    {10, FN_C_SignInit, ANSWER(CKR_DEVICE_MEMORY)},
    {10, FN_C_Sign, ANSWER(CKR_FUNCTION_FAILED)},
    {10, FN_C_Sign, ANSWER(CKR_DEVICE_MEMORY)},

    {11, FN_C_Sign, FOR_STUCK, DELAY},
    {11, FN_C_SignInit, FOR_STUCK, DELAY},

    {12, FN_C_Sign, FOR_SLOW, DELAY},
    {12, FN_C_SignInit, FOR_SLOW, DELAY},

    {13, FN_C_Login, ANSWER(CKR_PIN_INCORRECT)},
    {13, FN_C_Login, ANSWER(CKR_PIN_LOCKED)},
    {13, FN_C_Login, ANSWER(CKR_PIN_EXPIRED)},
    {13, FN_C_GetTokenInfo, .strike = {.flags = CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY}},

    {14, FN_C_Login, ANSWER_DONE(CKR_USER_ALREADY_LOGGED_IN)},
    {14, FN_C_Login, ANSWER(CKR_USER_ANOTHER_ALREADY_LOGGED_IN)},

    {15, FN_C_Sign, DAMAGE(FAULT_FLIP)},
    {15, FN_C_Sign, DAMAGE(FAULT_SHORT)},
    {15, FN_C_Sign, DAMAGE(FAULT_R_ZERO)},
    {15, FN_C_Sign, DAMAGE(FAULT_S_ZERO)},
    {15, FN_C_Sign, DAMAGE(FAULT_ZERO)},
    {15, FN_C_Sign, DAMAGE(FAULT_GARBAGE)},
    {15, FN_C_Sign, DAMAGE(FAULT_STALE)},

    {16, FN_C_Sign, ANSWER_ACTIVE(CKR_BUFFER_TOO_SMALL)},
    {16, FN_C_Sign, DAMAGE(FAULT_LONG)},
    {16, FN_C_Sign, DAMAGE(FAULT_DER)},

    {17, FN_C_FindObjects, OBJECTS(FAULT_TWIN)},
    {17, FN_C_GetAttributeValue, ALTER(CKA_EC_POINT, FAULT_POINT_OTHER)},

    {18, FN_C_GetAttributeValue, BOOLEAN(CKA_EXTRACTABLE, CK_TRUE)},
    {18, FN_C_GetAttributeValue, BOOLEAN(CKA_NEVER_EXTRACTABLE, CK_FALSE)},
    {18, FN_C_GetAttributeValue, BOOLEAN(CKA_SENSITIVE, CK_FALSE)},
    {18, FN_C_GetAttributeValue, BOOLEAN(CKA_LOCAL, CK_FALSE)},

    {20, FN_C_Initialize, ANSWER(CKR_GENERAL_ERROR)},
    {20, FN_C_Initialize, ANSWER(CKR_CANT_LOCK)},
    {20, FN_C_Initialize, ANSWER_DONE(CKR_CRYPTOKI_ALREADY_INITIALIZED)},

    {21, FN_C_Finalize, ANSWER(CKR_GENERAL_ERROR)},
    {21, FN_C_Finalize, FOR_STUCK, DELAY},
    {21, FN_C_CloseSession, ANSWER(CKR_DEVICE_ERROR)},

    {22, FN_C_OpenSession,
     .strike = {.answers = true, .rv = CKR_FUNCTION_NOT_SUPPORTED, .read_only = true}},
    {22, FN_C_GenerateKeyPair, ANSWER(CKR_SESSION_READ_ONLY)},

    {23, FN_C_GetAttributeValue, ALTER(CKA_EC_POINT, FAULT_POINT_RAW)},
    {23, FN_C_GetAttributeValue, ALTER(CKA_EC_POINT, FAULT_POINT_XY)},
    {23, FN_C_GetAttributeValue, ALTER(CKA_EC_POINT, FAULT_POINT_BITS)},
    {23, FN_C_GetAttributeValue, ALTER(CKA_PUBLIC_KEY_INFO, FAULT_NO_OCTETS)},
    {23, FN_C_GetAttributeValue, ALTER(CKA_KEY_GEN_MECHANISM, FAULT_UNAVAILABLE)},
    {23, FN_C_GetAttributeValue, ALTER(CKA_ALLOWED_MECHANISMS, FAULT_MISSING)},

    {24, FN_C_FindObjects, OBJECTS(FAULT_EMPTY)},
    {24, FN_C_FindObjects, OBJECTS(FAULT_DUPLICATE)},
    {24, FN_C_FindObjects, OBJECTS(FAULT_PARTIAL)},

    {25, FN_C_GenerateKeyPair, ANSWER(CKR_GENERAL_ERROR)},

    {26, FN_C_GetFunctionList, ANSWER(CKR_GENERAL_ERROR)},
};

const struct fault_ranges fault_ranges_default = {
    .outage = {20000000, 200000000},
    .stuck = {100000000, 500000000},
    .slow = {1000000, 50000000},
};

bool
fault_table_has(unsigned fault, enum fault_fn fn)
{
    for (size_t i = 0; i < COUNT(table); i++) {
        if (table[i].fault == fault && table[i].fn == fn)
            return true;
    }
    return false;
}

static int64_t
time_of(enum lasting lasting, const struct fault_ranges *ranges, uint64_t draw)
{
    struct fault_range range = lasting == FOR_OUTAGE  ? ranges->outage
                               : lasting == FOR_STUCK ? ranges->stuck
                                                      : ranges->slow;

    return range.least_ns + (int64_t)(draw % (uint64_t)(range.most_ns - range.least_ns + 1));
}

bool
fault_table_strike(unsigned fault, enum fault_fn fn, uint64_t draw,
                   const struct fault_ranges *ranges, struct fault_strike *out)
{
    const struct row *ways[COUNT(table)];
    size_t count = 0;
    const struct row *row;

    for (size_t i = 0; i < COUNT(table); i++) {
        if (table[i].fault == fault && table[i].fn == fn)
            ways[count++] = &table[i];
    }
    if (count == 0)
        return false;
    row = ways[draw % count];
    *out = row->strike;
    if (row->lasting == FOR_OUTAGE)
        out->effect_ns = time_of(row->lasting, ranges, fault_mix(draw));
    else if (row->lasting != FOR_NO_TIME)
        out->delay_ns = time_of(row->lasting, ranges, fault_mix(draw));
    return true;
}

/* Throttling and replication delay outlast a call. */
unsigned
fault_table_burst(unsigned fault, uint64_t draw)
{
    return fault == 10 || fault == 24 ? (unsigned)(draw % 8) : 0;
}

bool
fault_table_is_outage(unsigned fault)
{
    return fault >= 4 && fault <= 8;
}

/* All but a refused login, a different or weaker key, and a missing module. */
unsigned
fault_table_passing(void)
{
    unsigned faults = 0;

    for (unsigned fault = 1; fault <= FAULT_NUMBERS; fault++) {
        if (fault != 13 && fault != 14 && fault != 17 && fault != 18 && fault != 19 && fault != 26)
            faults |= FAULT_BIT(fault);
    }
    return faults;
}
