/* limit.c - limits of sessions. */
#include "limit.h"

#include <stdatomic.h>

#include "handles.h"

static atomic_ulong most;
static atomic_ulong most_rv = CKR_SESSION_COUNT;
static atomic_uint report;
static atomic_ulong reported;
static atomic_ulong read_only_rv;
static atomic_ulong read_write_rv;

void
fault_limit_sessions(unsigned long limit, CK_RV rv)
{
    atomic_store(&most_rv, rv);
    atomic_store(&most, limit);
}

void
fault_limit_set_report(enum fault_report how, unsigned long number)
{
    atomic_store(&reported, number);
    atomic_store(&report, how);
}

void
fault_limit_kind(bool read_write, CK_RV rv)
{
    atomic_store(read_write ? &read_write_rv : &read_only_rv, rv);
}

unsigned long
fault_limit_most(void)
{
    return atomic_load(&most);
}

CK_RV
fault_limit_rv(void)
{
    return atomic_load(&most_rv);
}

CK_RV
fault_limit_check(CK_FLAGS flags)
{
    return atomic_load((flags & CKF_RW_SESSION) != 0 ? &read_write_rv : &read_only_rv);
}

void
fault_limit_report(unsigned slot, CK_TOKEN_INFO *info)
{
    unsigned long limit = atomic_load(&most);

    if (limit != 0) {
        info->ulMaxSessionCount = limit;
        info->ulMaxRwSessionCount = limit;
        info->ulSessionCount = fault_session_count(slot);
    }
    switch ((enum fault_report)atomic_load(&report)) {
    case FAULT_REPORT_TRUE:
        return;
    case FAULT_REPORT_INFINITE:
        info->ulMaxSessionCount = CK_EFFECTIVELY_INFINITE;
        break;
    case FAULT_REPORT_UNKNOWN:
        info->ulMaxSessionCount = CK_UNAVAILABLE_INFORMATION;
        break;
    case FAULT_REPORT_NUMBER:
        info->ulMaxSessionCount = atomic_load(&reported);
        break;
    }
    info->ulMaxRwSessionCount = info->ulMaxSessionCount;
}

void
fault_limit_reset(void)
{
    fault_limit_sessions(0, CKR_SESSION_COUNT);
    fault_limit_set_report(FAULT_REPORT_TRUE, 0);
    fault_limit_kind(true, CKR_OK);
    fault_limit_kind(false, CKR_OK);
}
