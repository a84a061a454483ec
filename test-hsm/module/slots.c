/* slots.c - slots and the tokens in them, as callers see them. */
#include "slots.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "behind.h"
#include "handles.h"
#include "latency.h"

#define FIRST_NUMBER 0x2000UL /* of renumbered slots; each renumbering uses new numbers */

struct slot {
    CK_SLOT_ID real;
    CK_SLOT_ID shown;
    bool labelled;
    char label[FAULT_LABEL_SIZE]; /* of the token, without trailing spaces */
    unsigned wrong_pins;
    bool logged_out;
};

struct removal {
    bool active;
    char label[FAULT_LABEL_SIZE];
    enum fault_removal how;
    CK_RV rv;
    int64_t until_ns;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct slot slots[FAULT_SLOTS_MAX];
static unsigned slot_count;
static bool renumbered; /* then numbers never given to callers are invalid */
static CK_SLOT_ID next_number = FIRST_NUMBER;
static struct removal removals[FAULT_REMOVALS_MAX];
static atomic_uint removals_active;
static atomic_uint lockout; /* wrong PINs that lock a token; 0: never */

/* lock is held. */
static bool
meet(CK_SLOT_ID real, unsigned *index)
{
    for (unsigned i = 0; i < slot_count; i++) {
        if (slots[i].real == real) {
            *index = i;
            return true;
        }
    }
    if (slot_count == FAULT_SLOTS_MAX)
        return false;
    slots[slot_count] = (struct slot){.real = real, .shown = renumbered ? next_number++ : real};
    *index = slot_count++;
    return true;
}

bool
fault_slot_meet(CK_SLOT_ID real, unsigned *index)
{
    bool met;

    pthread_mutex_lock(&lock);
    met = meet(real, index);
    pthread_mutex_unlock(&lock);
    return met;
}

/* An unknown number goes to the module behind, which refuses it if it is wrong. */
bool
fault_slot_find(CK_SLOT_ID shown, unsigned *index)
{
    bool found = false;

    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < slot_count && !found; i++) {
        found = slots[i].shown == shown;
        if (found)
            *index = i;
    }
    if (!found && !renumbered)
        found = meet(shown, index);
    pthread_mutex_unlock(&lock);
    return found;
}

CK_SLOT_ID
fault_slot_real(unsigned index)
{
    CK_SLOT_ID real;

    pthread_mutex_lock(&lock);
    real = slots[index].real;
    pthread_mutex_unlock(&lock);
    return real;
}

CK_SLOT_ID
fault_slot_shown(unsigned index)
{
    CK_SLOT_ID shown;

    pthread_mutex_lock(&lock);
    shown = slots[index].shown;
    pthread_mutex_unlock(&lock);
    return shown;
}

unsigned
fault_slot_count(void)
{
    unsigned count;

    pthread_mutex_lock(&lock);
    count = slot_count;
    pthread_mutex_unlock(&lock);
    return count;
}

void
fault_slot_renumber(void)
{
    pthread_mutex_lock(&lock);
    renumbered = true;
    for (unsigned i = 0; i < slot_count; i++)
        slots[i].shown = next_number++;
    pthread_mutex_unlock(&lock);
}

/* The label is padded with spaces (section 3.2, CK_TOKEN_INFO). */
static void
keep_label(struct slot *slot, const CK_TOKEN_INFO *info)
{
    size_t len = sizeof(info->label);

    while (len > 0 && info->label[len - 1] == ' ')
        len--;
    memcpy(slot->label, info->label, len);
    slot->label[len] = '\0';
    slot->labelled = true;
}

void
fault_slot_learn(unsigned index)
{
    CK_TOKEN_INFO info;

    pthread_mutex_lock(&lock);
    if (!slots[index].labelled && fault_behind->C_GetTokenInfo(slots[index].real, &info) == CKR_OK)
        keep_label(&slots[index], &info);
    pthread_mutex_unlock(&lock);
}

/* lock is held. */
static bool
has_label(const struct slot *slot, const char *label)
{
    return label[0] == '\0' || (slot->labelled && strcmp(slot->label, label) == 0);
}

bool
fault_slot_has_label(unsigned index, const char *label)
{
    bool has;

    pthread_mutex_lock(&lock);
    has = has_label(&slots[index], label);
    pthread_mutex_unlock(&lock);
    return has;
}

void
fault_slot_label(unsigned index, char label[FAULT_LABEL_SIZE])
{
    label[0] = '\0';
    if (index >= FAULT_SLOTS_MAX)
        return;
    pthread_mutex_lock(&lock);
    if (slots[index].labelled)
        memcpy(label, slots[index].label, FAULT_LABEL_SIZE);
    pthread_mutex_unlock(&lock);
}

void
fault_slot_forget_label(unsigned index)
{
    pthread_mutex_lock(&lock);
    slots[index].labelled = false;
    pthread_mutex_unlock(&lock);
}

void
fault_slot_forget_labels(void)
{
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < slot_count; i++) {
        slots[i].labelled = false;
        slots[i].logged_out = false;
    }
    pthread_mutex_unlock(&lock);
}

/* ---- tokens that are away */

bool
fault_slot_remove(const char *label, enum fault_removal how, CK_RV rv, int64_t until_ns)
{
    struct removal *removal = NULL;

    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < FAULT_REMOVALS_MAX && removal == NULL; i++) {
        if (!removals[i].active || strcmp(removals[i].label, label) == 0)
            removal = &removals[i];
    }
    if (removal != NULL) {
        if (!removal->active)
            atomic_fetch_add(&removals_active, 1);
        *removal = (struct removal){.active = true, .how = how, .rv = rv, .until_ns = until_ns};
        snprintf(removal->label, sizeof(removal->label), "%s", label);
    }
    pthread_mutex_unlock(&lock);
    return removal != NULL;
}

/* lock is held. */
static void
end_removal(struct removal *removal)
{
    if (!removal->active)
        return;
    removal->active = false;
    atomic_fetch_sub(&removals_active, 1);
}

void
fault_slot_return(const char *label)
{
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < FAULT_REMOVALS_MAX; i++) {
        if (label[0] == '\0' || strcmp(removals[i].label, label) == 0)
            end_removal(&removals[i]);
    }
    pthread_mutex_unlock(&lock);
}

/* lock is held. */
static bool
is_on(struct removal *removal, int64_t now)
{
    if (removal->active && removal->until_ns != 0 && removal->until_ns <= now)
        end_removal(removal);
    return removal->active;
}

bool
fault_slot_is_away(unsigned index, enum fault_removal *how)
{
    bool away = false;
    int64_t now;

    if (atomic_load(&removals_active) == 0)
        return false;
    now = fault_now_ns();
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < FAULT_REMOVALS_MAX && !away; i++) {
        away = is_on(&removals[i], now) && has_label(&slots[index], removals[i].label);
        if (away)
            *how = removals[i].how;
    }
    pthread_mutex_unlock(&lock);
    return away;
}

CK_RV
fault_slot_lost_session(void)
{
    CK_RV rv = CKR_SESSION_HANDLE_INVALID;
    int64_t now;

    if (atomic_load(&removals_active) == 0)
        return rv;
    now = fault_now_ns();
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < FAULT_REMOVALS_MAX; i++) {
        if (is_on(&removals[i], now))
            rv = removals[i].rv;
    }
    pthread_mutex_unlock(&lock);
    return rv;
}

/* ---- PINs */

void
fault_slot_set_lockout(unsigned tries)
{
    atomic_store(&lockout, tries);
}

static unsigned
wrong_pins(unsigned index)
{
    unsigned count;

    pthread_mutex_lock(&lock);
    count = slots[index].wrong_pins;
    pthread_mutex_unlock(&lock);
    return count;
}

CK_RV
fault_slot_may_login(unsigned index)
{
    unsigned tries = atomic_load(&lockout);

    return tries != 0 && wrong_pins(index) >= tries ? CKR_PIN_LOCKED : CKR_OK;
}

void
fault_slot_login_result(unsigned index, CK_RV rv)
{
    pthread_mutex_lock(&lock);
    if (rv == CKR_PIN_INCORRECT)
        slots[index].wrong_pins++;
    if (rv == CKR_OK) {
        slots[index].wrong_pins = 0;
        slots[index].logged_out = false;
    }
    pthread_mutex_unlock(&lock);
}

CK_FLAGS
fault_slot_pin_flags(unsigned index)
{
    unsigned tries = atomic_load(&lockout);
    unsigned wrong = wrong_pins(index);

    if (tries == 0 || wrong == 0)
        return 0;
    if (wrong >= tries)
        return CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_LOCKED;
    return wrong + 1 == tries ? CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY
                              : CKF_USER_PIN_COUNT_LOW;
}

void
fault_slot_set_logged_out(unsigned index, bool logged_out)
{
    pthread_mutex_lock(&lock);
    slots[index].logged_out = logged_out;
    pthread_mutex_unlock(&lock);
}

bool
fault_slot_is_logged_out(unsigned index)
{
    bool logged_out;

    pthread_mutex_lock(&lock);
    logged_out = slots[index].logged_out;
    pthread_mutex_unlock(&lock);
    return logged_out;
}

void
fault_slot_reset(void)
{
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < FAULT_REMOVALS_MAX; i++)
        end_removal(&removals[i]);
    for (unsigned i = 0; i < slot_count; i++)
        slots[i].wrong_pins = 0;
    atomic_store(&lockout, 0);
    pthread_mutex_unlock(&lock);
}

void
fault_slot_child(void)
{
    lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    for (unsigned i = 0; i < slot_count; i++)
        slots[i].logged_out = false;
}
