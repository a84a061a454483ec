/*
 * rules.h - which calls a fault strikes, and what it does to them.
 *
 * Each call first calls fault_rules_decide() once, which combines all that strikes the call into
 * one strike. The functions then use the members of the strike that concern them.
 */
#ifndef FAULT_RULES_H
#define FAULT_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <p11-kit/pkcs11.h>

#include "functions.h"
#include "slots.h"

#define FAULT_RULES_MAX   64
#define FAULT_ALTERED_MAX 80 /* octets of an attribute */
#define FAULT_NUMBERS     26 /* rows of the table of faults, from 1 */
#define FAULT_BIT(number) (1U << (number))

enum fault_outcome { /* the effect of a call that returns an error */
    FAULT_ENDED, /* nothing was done; the operation that the call would have ended is over */
    FAULT_ACTIVE, /* nothing was done; the operation is still active */
    FAULT_DONE, /* it was done despite the error */
};

enum fault_effect { /* what happens to the token just before the call */
    FAULT_NO_EFFECT,
    FAULT_DROP, /* the call's session is lost */
    FAULT_REBOOT,
    FAULT_LOGOUT,
    FAULT_RENUMBER,
    FAULT_RENUMBER_SLOTS,
    FAULT_EXCHANGE,
    FAULT_REMOVE,
    FAULT_REMOVE_WITH_SLOT,
    FAULT_FINALIZE,
    FAULT_CRASH,
};

enum fault_damage { /* to a signature that the module behind made */
    FAULT_NO_DAMAGE,
    FAULT_FLIP,
    FAULT_SHORT,
    FAULT_LONG,
    FAULT_R_ZERO,
    FAULT_S_ZERO,
    FAULT_ZERO,
    FAULT_DER,
    FAULT_GARBAGE,
    FAULT_STALE,
};

enum fault_objects { /* done to the answer of C_FindObjects */
    FAULT_ALL_OBJECTS,
    FAULT_EMPTY,
    FAULT_DUPLICATE,
    FAULT_TWIN,
    FAULT_PARTIAL,
};

enum fault_value { /* what replaces an attribute's value */
    FAULT_AS_IT_IS,
    FAULT_OCTETS,
    FAULT_MISSING, /* CKR_ATTRIBUTE_TYPE_INVALID */
    FAULT_SENSITIVE, /* CKR_ATTRIBUTE_SENSITIVE */
    FAULT_UNAVAILABLE, /* CKR_OK with CK_UNAVAILABLE_INFORMATION as the length */
    FAULT_NO_OCTETS, /* CKR_OK with length 0 */
    FAULT_POINT_DER, /* 04 41 04 X Y, an OCTET STRING, as the standard requires */
    FAULT_POINT_RAW, /* 04 X Y */
    FAULT_POINT_XY, /* X Y */
    FAULT_POINT_BITS, /* 03 42 00 04 X Y, a BIT STRING */
    FAULT_POINT_OTHER, /* of another key */
};

struct fault_alteration {
    CK_ATTRIBUTE_TYPE type;
    enum fault_value value;
    size_t len;
    CK_BYTE octets[FAULT_ALTERED_MAX];
};

struct fault_strike {
    bool answers; /* the call returns rv */
    CK_RV rv;
    enum fault_outcome outcome;
    bool read_only; /* only a C_OpenSession without CKF_RW_SESSION returns rv */
    bool holds; /* the call blocks until fault_release() */
    int64_t delay_ns;
    enum fault_effect effect;
    CK_RV effect_rv; /* returned for sessions whose token is away */
    int64_t effect_ns; /* how long the token is away, 0: until a command returns it */
    enum fault_damage damage;
    enum fault_objects objects;
    CK_ULONG most; /* objects in a partial batch */
    CK_FLAGS flags; /* set in CK_TOKEN_INFO */
    struct fault_alteration alteration;
    uint64_t rules; /* a bit for each rule that struck: fault_rules_alteration() */
};

struct fault_rule {
    bool on[FN_COUNT];
    char token[FAULT_LABEL_SIZE]; /* "": any */
    unsigned long after; /* calls that pass first */
    unsigned long every; /* strikes every n-th later call, at least 1 */
    unsigned long times; /* number of strikes, 0: no limit */
    int64_t until_ns; /* 0: no end */
    double chance; /* probability for each of these calls, 0 to 1 */
    unsigned number; /* row of the table of faults, 0: `strike` applies */
    struct fault_strike strike;
};

struct fault_range {
    int64_t least_ns;
    int64_t most_ns;
};

struct fault_ranges { /* durations of faults of the table */
    struct fault_range outage; /* how long a token is away */
    struct fault_range stuck; /* duration of a stuck call */
    struct fault_range slow; /* duration of a slow call */
};

struct fault_random {
    uint64_t seed;
    double rate; /* share of the calls that could be struck */
    unsigned faults; /* FAULT_BIT of each */
    struct fault_ranges ranges;
    int64_t gap_ns; /* minimum time between two faults that make the whole token unusable */
};

extern const struct fault_ranges fault_ranges_default;

/** Add a rule; returns its number, from 1, or 0 if there are FAULT_RULES_MAX already. */
unsigned fault_rules_add(const struct fault_rule *rule);

/** Begin faults at random; NULL ends them. */
void fault_rules_set_random(const struct fault_random *random);

/** Whether something strikes this call. */
bool fault_rules_decide(enum fault_fn fn, unsigned slot, struct fault_strike *out);

/** How the rules that struck alter this attribute. */
void fault_rules_alteration(const struct fault_strike *strike, CK_ATTRIBUTE_TYPE type,
                            struct fault_alteration *out);

/** Number of strikes of a rule; 0: of all rules and random faults together. */
unsigned long fault_rules_struck(unsigned number);

/** Number of strikes of a row of the table, by rules or at random. */
unsigned long fault_rules_struck_by_fault(unsigned fault);

void fault_rules_reset(void);
void fault_rules_child(void);

/* ---- faults.c: the table of faults */

/** Whether the fault can strike the function. */
bool fault_table_has(unsigned fault, enum fault_fn fn);

/** One of the ways in which the fault strikes the function; false: it cannot strike it. */
bool fault_table_strike(unsigned fault, enum fault_fn fn, uint64_t draw,
                        const struct fault_ranges *ranges, struct fault_strike *out);

/** The number of further calls that a random fault strikes once it has begun. */
unsigned fault_table_burst(unsigned fault, uint64_t draw);

/** True if sessions, logins or the token itself are lost for all threads. */
bool fault_table_is_outage(unsigned fault);

/** FAULT_BIT of each fault from which a good caller recovers without help. */
unsigned fault_table_passing(void);

#endif
