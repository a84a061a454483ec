/* limit.h - how many sessions a token has, which kinds, and what it says of that. */
#ifndef FAULT_LIMIT_H
#define FAULT_LIMIT_H

#include <stdbool.h>

#include <p11-kit/pkcs11.h>

enum fault_report { /* ulMaxSessionCount */
    FAULT_REPORT_TRUE, /* as it is */
    FAULT_REPORT_INFINITE, /* CK_EFFECTIVELY_INFINITE */
    FAULT_REPORT_UNKNOWN, /* CK_UNAVAILABLE_INFORMATION */
    FAULT_REPORT_NUMBER, /* another */
};

/** Sessions of each token, 0: any number; rv is the answer to one more. */
void fault_limit_sessions(unsigned long most, CK_RV rv);

void fault_limit_set_report(enum fault_report report, unsigned long number);

/** rv is the answer to sessions of that kind, CKR_OK: they are opened. */
void fault_limit_kind(bool read_write, CK_RV rv);

unsigned long fault_limit_most(void);
CK_RV fault_limit_rv(void);

/** CKR_OK: a session with these flags may be opened. */
CK_RV fault_limit_check(CK_FLAGS flags);

/** What C_GetTokenInfo says of sessions. */
void fault_limit_report(unsigned slot, CK_TOKEN_INFO *info);

void fault_limit_reset(void);

#endif
