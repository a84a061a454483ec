/*
 * journal_read_internal.h - what the readers of a journal share.
 */
#ifndef HSM_JOURNAL_READ_INTERNAL_H
#define HSM_JOURNAL_READ_INTERNAL_H

#include "journal_index_internal.h"

/** For reading; NOT_FOUND where it is not. */
HSM_MUST_CHECK enum hsm_status hsm_journal_open_file(const char *dir, const char *file, int *out,
                                                     struct hsm_reason *why);

/** HSM_ERR_UNTRUSTED with the place of the line at which a walk stopped. */
enum hsm_status hsm_journal_wrong(const char *file, const struct hsm_walk *walk,
                                  struct hsm_reason *why);

#endif
