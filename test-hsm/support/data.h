/*
 * data.h - vectors and expected values that tests read.
 *
 * test-hsm/data is part of the repository. The shared material (Wycheproof,
 * production certificates) is not: it is read from $STI_SHARED or ../shared
 * beside the checkout, and a test that does not find it is skipped with a message.
 */
#ifndef TEST_DATA_H
#define TEST_DATA_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

/** Path of test-hsm/data/NAME; static storage, overwritten by the next call. */
const char *data_path(const char *name);

/** Path of a file of the shared material; NULL, with a message on stdout, if it is absent. */
const char *shared_path(const char *name);

/** Path of a program that this build made, e.g. "sti-hsm". */
const char *program_path(const char *name);

/** test-hsm/data/NAME, parsed; aborts if it is absent or not JSON. The caller decrefs. */
json_t *data_json(const char *name);

/** test-hsm/data/NAME, NUL-terminated; free() it. Aborts if it is absent. */
char *data_text(const char *name, size_t *len);

/** Hex digits to octets; returns how many. Aborts on anything else. "-" is empty. */
size_t data_unhex(const char *hex, uint8_t *out, size_t max);

#endif
