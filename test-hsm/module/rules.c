/* rules.c - rules, applied in order, and random faults. */
#include "rules.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "armed.h"
#include "handles.h"
#include "latency.h"

struct live_rule {
    struct fault_rule rule;
    unsigned long seen;
    unsigned long struck;
    bool over;
};

atomic_uint fault_armed[FN_COUNT];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct live_rule rules[FAULT_RULES_MAX];
static unsigned rule_count;
static uint64_t draws; /* drawn by rules */

static struct fault_random dice; /* written under the lock while no function is armed for it */
static _Atomic uint64_t throws;
static atomic_ullong last_outage_ns;
static atomic_uint bursts[FN_COUNT]; /* fault * 256 + calls left */
static atomic_ulong struck_by_fault[FAULT_NUMBERS + 1]; /* [0]: all */

/* 0 <= share < 1. */
static double
share_of(uint64_t draw)
{
    return (double)(draw >> 11) * 0x1p-53;
}

/* ---- rules */

/* Arm each function while a rule is left that could strike it. lock is held. */
static void
arm(void)
{
    bool on[FN_COUNT] = {false};

    for (unsigned i = 0; i < rule_count; i++) {
        for (enum fault_fn fn = 0; fn < FN_COUNT && !rules[i].over; fn++)
            on[fn] = on[fn] || rules[i].rule.on[fn];
    }
    for (enum fault_fn fn = 0; fn < FN_COUNT; fn++)
        fault_arm(fn, FAULT_ARMED_RULES, on[fn]);
}

unsigned
fault_rules_add(const struct fault_rule *rule)
{
    unsigned number = 0;

    pthread_mutex_lock(&lock);
    if (rule_count < FAULT_RULES_MAX) {
        rules[rule_count] = (struct live_rule){.rule = *rule};
        number = ++rule_count;
        arm();
    }
    pthread_mutex_unlock(&lock);
    return number;
}

/* Whether a rule strikes this call; it counts the calls that it could strike. lock is held. */
static bool
rule_strikes(struct live_rule *live, enum fault_fn fn, unsigned slot)
{
    const struct fault_rule *rule = &live->rule;
    unsigned long seen;

    if (live->over || !rule->on[fn])
        return false;
    if (rule->until_ns != 0 && fault_now_ns() >= rule->until_ns) {
        live->over = true;
        arm();
        return false;
    }
    if (rule->token[0] != '\0' &&
        (slot == FAULT_EVERY_SLOT || !fault_slot_has_label(slot, rule->token)))
        return false;
    seen = live->seen++;
    if (seen < rule->after || (seen - rule->after + 1) % rule->every != 0)
        return false;
    return rule->chance >= 1 || share_of(fault_mix(draws++)) < rule->chance;
}

/* lock is held. */
static void
count_strike(struct live_rule *live)
{
    live->struck++;
    atomic_fetch_add(&struck_by_fault[0], 1);
    if (live->rule.number != 0)
        atomic_fetch_add(&struck_by_fault[live->rule.number], 1);
    if (live->rule.times != 0 && live->struck == live->rule.times) {
        live->over = true;
        arm();
    }
}

/* If two rules set the return value, the effect or the damage, the first one counts; delays add up.
 */
static void
add_strike(struct fault_strike *sum, const struct fault_strike *more)
{
    if (!sum->answers && more->answers) {
        sum->answers = true;
        sum->rv = more->rv;
        sum->outcome = more->outcome;
        sum->read_only = more->read_only;
    }
    if (sum->effect == FAULT_NO_EFFECT) {
        sum->effect = more->effect;
        sum->effect_rv = more->effect_rv;
        sum->effect_ns = more->effect_ns;
    }
    if (sum->damage == FAULT_NO_DAMAGE)
        sum->damage = more->damage;
    if (sum->objects == FAULT_ALL_OBJECTS) {
        sum->objects = more->objects;
        sum->most = more->most;
    }
    if (sum->alteration.value == FAULT_AS_IT_IS)
        sum->alteration = more->alteration;
    sum->holds = sum->holds || more->holds;
    sum->delay_ns += more->delay_ns;
    sum->flags |= more->flags;
}

/* lock is held. */
static void
add_rule(struct fault_strike *sum, struct live_rule *live, enum fault_fn fn)
{
    struct fault_strike drawn;

    if (live->rule.number == 0)
        add_strike(sum, &live->rule.strike);
    else if (fault_table_strike(live->rule.number, fn, fault_mix(draws++), &fault_ranges_default,
                                &drawn))
        add_strike(sum, &drawn);
    sum->rules |= UINT64_C(1) << (live - rules);
    count_strike(live);
}

static bool
decide_by_rules(enum fault_fn fn, unsigned slot, struct fault_strike *out)
{
    bool struck = false;

    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < rule_count; i++) {
        if (!rule_strikes(&rules[i], fn, slot))
            continue;
        add_rule(out, &rules[i], fn);
        struck = true;
    }
    pthread_mutex_unlock(&lock);
    return struck;
}

/* If several rules alter an attribute type, the first one counts. */
void
fault_rules_alteration(const struct fault_strike *strike, CK_ATTRIBUTE_TYPE type,
                       struct fault_alteration *out)
{
    out->value = FAULT_AS_IT_IS;
    if (strike->alteration.value != FAULT_AS_IT_IS && strike->alteration.type == type) {
        *out = strike->alteration;
        return;
    }
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < rule_count && out->value == FAULT_AS_IT_IS; i++) {
        const struct fault_alteration *alteration = &rules[i].rule.strike.alteration;

        if ((strike->rules >> i & 1) != 0 && alteration->type == type)
            *out = *alteration;
    }
    pthread_mutex_unlock(&lock);
}

/* ---- at random */

void
fault_rules_set_random(const struct fault_random *random)
{
    pthread_mutex_lock(&lock);
    for (enum fault_fn fn = 0; fn < FN_COUNT; fn++) {
        fault_arm(fn, FAULT_ARMED_RANDOM, false);
        atomic_store(&bursts[fn], 0);
    }
    memset(&dice, 0, sizeof(dice));
    atomic_store(&throws, 0);
    atomic_store(&last_outage_ns, 0);
    if (random != NULL)
        dice = *random;
    for (enum fault_fn fn = 0; fn < FN_COUNT && random != NULL; fn++) {
        bool any = false;

        for (unsigned fault = 1; fault <= FAULT_NUMBERS; fault++)
            any = any || ((dice.faults & FAULT_BIT(fault)) != 0 && fault_table_has(fault, fn));
        fault_arm(fn, FAULT_ARMED_RANDOM, any);
    }
    pthread_mutex_unlock(&lock);
}

/* One of the chosen faults that can strike this function; 0: none. */
static unsigned
pick(const struct fault_random *random, enum fault_fn fn, uint64_t draw)
{
    unsigned candidates[FAULT_NUMBERS];
    unsigned count = 0;

    for (unsigned fault = 1; fault <= FAULT_NUMBERS; fault++) {
        if ((random->faults & FAULT_BIT(fault)) != 0 && fault_table_has(fault, fn))
            candidates[count++] = fault;
    }
    return count > 0 ? candidates[draw % count] : 0;
}

/* A minimum gap between outages keeps the token available at times. */
static bool
too_early(const struct fault_random *random, unsigned fault)
{
    unsigned long long now = (unsigned long long)fault_now_ns();
    unsigned long long last = atomic_load(&last_outage_ns);

    if (!fault_table_is_outage(fault))
        return false;
    if (last != 0 && now - last < (unsigned long long)random->gap_ns)
        return true;
    return !atomic_compare_exchange_strong(&last_outage_ns, &last, now);
}

/* The fault that continues from an earlier call, else one drawn at random; 0: no fault. */
static unsigned
throw_dice(const struct fault_random *random, enum fault_fn fn, uint64_t draw)
{
    unsigned burst = atomic_load(&bursts[fn]);
    unsigned fault;

    if ((burst & 255) > 0) {
        atomic_compare_exchange_strong(&bursts[fn], &burst, burst - 1);
        return burst >> 8;
    }
    if (share_of(draw) >= random->rate)
        return 0;
    fault = pick(random, fn, fault_mix(draw));
    if (fault == 0 || too_early(random, fault))
        return 0;
    atomic_store(&bursts[fn], fault << 8 | fault_table_burst(fault, draw));
    return fault;
}

static bool
decide_at_random(enum fault_fn fn, struct fault_strike *out)
{
    struct fault_random random;
    struct fault_strike drawn;
    uint64_t draw;
    unsigned fault;

    pthread_mutex_lock(&lock);
    random = dice;
    pthread_mutex_unlock(&lock);
    draw = fault_mix(random.seed ^ fault_mix(atomic_fetch_add(&throws, 1)));
    fault = throw_dice(&random, fn, draw);
    if (fault == 0 || !fault_table_strike(fault, fn, fault_mix(draw + 1), &random.ranges, &drawn))
        return false;
    add_strike(out, &drawn);
    atomic_fetch_add(&struck_by_fault[0], 1);
    atomic_fetch_add(&struck_by_fault[fault], 1);
    return true;
}

/* ---- */

bool
fault_rules_decide(enum fault_fn fn, unsigned slot, struct fault_strike *out)
{
    unsigned armed = fault_is_armed(fn);
    bool struck = false;

    if ((armed & (FAULT_ARMED_RULES | FAULT_ARMED_RANDOM)) == 0)
        return false;
    memset(out, 0, sizeof(*out));
    if ((armed & FAULT_ARMED_RULES) != 0)
        struck = decide_by_rules(fn, slot, out);
    if ((armed & FAULT_ARMED_RANDOM) != 0)
        struck = decide_at_random(fn, out) || struck;
    return struck;
}

unsigned long
fault_rules_struck(unsigned number)
{
    unsigned long struck = 0;

    if (number == 0)
        return atomic_load(&struck_by_fault[0]);
    pthread_mutex_lock(&lock);
    if (number <= rule_count)
        struck = rules[number - 1].struck;
    pthread_mutex_unlock(&lock);
    return struck;
}

unsigned long
fault_rules_struck_by_fault(unsigned fault)
{
    return atomic_load(&struck_by_fault[fault]);
}

void
fault_rules_reset(void)
{
    fault_rules_set_random(NULL);
    pthread_mutex_lock(&lock);
    rule_count = 0;
    draws = 0;
    arm();
    for (unsigned fault = 0; fault <= FAULT_NUMBERS; fault++)
        atomic_store(&struck_by_fault[fault], 0);
    pthread_mutex_unlock(&lock);
}

void
fault_rules_child(void)
{
    lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}
