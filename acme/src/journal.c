/* journal.c - the section [journal] of a configuration. */
#include <acme/journal.h>

#include <hsm/log.h>

enum hsm_status
acme_journal_settings(const struct acme_journal_config *config, struct hsm_journal_config *out)
{
    struct hsm_journal_config settings = {
        .dir = config->dir,
        .key_label = config->key_label,
        .checkpoint_records = (unsigned)config->checkpoint_records,
        .checkpoint_s = (unsigned)config->checkpoint_s,
        .flush_ms = (unsigned)config->flush_ms,
        .rotate_mb = (unsigned)config->rotate_mb,
        .retain_days = (unsigned)config->retain_days,
    };

    if (config->on_failure != NULL &&
        hsm_journal_failure_parse(config->on_failure, &settings.on_failure) != HSM_OK) {
        hsm_log(HSM_LOG_ERROR, "[journal] on-failure: neither by-kind, refuse nor go-on");
        return HSM_ERR_MALFORMED;
    }
    *out = settings;
    return HSM_OK;
}
