/* limit.h - how many sessions of which kinds a token allows, and the limits that it reports. */
#ifndef FAULT_LIMIT_H
#define FAULT_LIMIT_H

#include <stdbool.h>

#include <p11-kit/pkcs11.h>

enum fault_report { /* ulMaxSessionCount */
    FAULT_REPORT_TRUE, /* the actual limit */
    FAULT_REPORT_INFINITE, /* CK_EFFECTIVELY_INFINITE */
    FAULT_REPORT_UNKNOWN, /* CK_UNAVAILABLE_INFORMATION */
    FAULT_REPORT_NUMBER, /* a given number */
};

/** Limit the sessions of each token, 0: no limit; rv is returned for one session more. */
void fault_limit_sessions(unsigned long most, CK_RV rv);

void fault_limit_set_report(enum fault_report report, unsigned long number);

/** Return rv for sessions of this kind; CKR_OK: they are opened. */
void fault_limit_kind(bool read_write, CK_RV rv);

unsigned long fault_limit_most(void);
CK_RV fault_limit_rv(void);

/** CKR_OK: a session with these flags may be opened. */
CK_RV fault_limit_check(CK_FLAGS flags);

/** Replace the session limits in the answer of C_GetTokenInfo. */
void fault_limit_report(unsigned slot, CK_TOKEN_INFO *info);

void fault_limit_reset(void);

#endif
