/* gate.c - admit a bounded number of callers, first come first served. */
#define _GNU_SOURCE /* pthread_cond_clockwait */
#include "gate_internal.h"

#include "clock_internal.h"

struct hsm_gate_waiter {
    pthread_cond_t called;
    bool admitted;
    struct hsm_gate_waiter *next;
};

bool
hsm_gate_init(struct hsm_gate *gate, unsigned permits)
{
    gate->free = permits;
    gate->first = NULL;
    gate->last = NULL;
    return pthread_mutex_init(&gate->lock, NULL) == 0;
}

void
hsm_gate_destroy(struct hsm_gate *gate)
{
    pthread_mutex_destroy(&gate->lock);
}

static void
append(struct hsm_gate *gate, struct hsm_gate_waiter *waiter)
{
    if (gate->last != NULL)
        gate->last->next = waiter;
    else
        gate->first = waiter;
    gate->last = waiter;
}

static void
unlink_waiter(struct hsm_gate *gate, const struct hsm_gate_waiter *waiter)
{
    struct hsm_gate_waiter *before = NULL;

    for (struct hsm_gate_waiter *w = gate->first; w != waiter; w = w->next)
        before = w;
    if (before != NULL)
        before->next = waiter->next;
    else
        gate->first = waiter->next;
    if (gate->last == waiter)
        gate->last = before;
}

/* Under gate->lock. */
static bool
wait_for_turn(struct hsm_gate *gate, unsigned timeout_ms)
{
    struct hsm_gate_waiter self = {.admitted = false, .next = NULL};
    struct timespec deadline = hsm_clock_timespec(hsm_deadline_after(timeout_ms));
    int rc = pthread_cond_init(&self.called, NULL);

    if (rc != 0)
        return false;
    append(gate, &self);
    while (!self.admitted && rc == 0)
        rc = pthread_cond_clockwait(&self.called, &gate->lock, CLOCK_MONOTONIC, &deadline);
    if (!self.admitted)
        unlink_waiter(gate, &self);
    pthread_cond_destroy(&self.called);
    return self.admitted;
}

bool
hsm_gate_enter(struct hsm_gate *gate, unsigned timeout_ms)
{
    bool admitted = true;

    pthread_mutex_lock(&gate->lock);
    if (gate->free > 0)
        gate->free--;
    else
        admitted = wait_for_turn(gate, timeout_ms);
    pthread_mutex_unlock(&gate->lock);
    return admitted;
}

/* The permit goes to the caller that has waited longest, so that no other can overtake (pkcs11
 * pools that wake any waiter have ten times the p99). */
void
hsm_gate_leave(struct hsm_gate *gate)
{
    struct hsm_gate_waiter *next;

    pthread_mutex_lock(&gate->lock);
    next = gate->first;
    if (next == NULL) {
        gate->free++;
    } else {
        unlink_waiter(gate, next);
        next->admitted = true;
        pthread_cond_signal(&next->called);
    }
    pthread_mutex_unlock(&gate->lock);
}
