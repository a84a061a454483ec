/*
 * commands.h - commands of sti-hsm that have their own files.
 */
#ifndef STI_HSM_COMMANDS_H
#define STI_HSM_COMMANDS_H

#include "arguments.h"

enum hsm_status bench_run(const struct arguments *arguments);

enum hsm_status doctor_run(const struct arguments *arguments);

enum hsm_status audit_run(const struct arguments *arguments);

enum hsm_status audit_show(const struct arguments *arguments);

enum hsm_status audit_verify(const struct arguments *arguments);
enum hsm_status journal_show(const struct arguments *arguments);
enum hsm_status journal_verify(const struct arguments *arguments);
enum hsm_status journal_prove(const struct arguments *arguments);
enum hsm_status journal_export(const struct arguments *arguments);

#endif
