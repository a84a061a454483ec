# What NSS softokn 3.87 cannot do; with the reason.
hsm_token.labels_have_1_to_32_octets softokn has no C_InitToken that works without a database
hsm_token.a_pin_that_the_token_does_not_take_is_refused_at_initialisation softokn has no C_InitToken that works without a database
hsm_token.a_label_is_given_once softokn has no C_InitToken that works without a database
hsm_token.tokens_are_found_by_serial_number every token of softokn has the serial number 0
hsm_token.a_wrong_pin_shows_on_the_token softokn does not count wrong PINs
hsm_token.several_tokens_are_open_at_once softokn learns of tokens at C_Initialize alone
hsm_key.a_generated_key_is_told_to_be_unchangeable_and_local softokn knows neither CKA_COPYABLE nor a true CKA_LOCAL
hsm_key.keys_that_are_not_sensitive_are_refused softokn's database has no key that is not sensitive
hsm_key.keys_that_share_an_id_are_ambiguous softokn takes two private keys of one CKA_ID for one and writes the second over the first
hsm_key.processes_generate_side_by_side softokn loses objects of the children of a process that forked with it initialised; flow does this with processes of their own
hsm_audit.a_modifiable_key_is_the_finding softokn's database has no key that is not modifiable, so that this is no fault of one key
hsm_audit.a_wrapping_key_is_told_of_beside_the_key_that_it_can_wrap softokn wraps and derives with every key, whatever its attributes say: the audit finds that
hsm_audit.attempts_take_nothing_and_leave_nothing softokn wraps and derives with every key, whatever its attributes say: the audit finds that
hsm_audit.an_attempt_that_succeeds_is_told_with_the_attribute_that_let_it softokn wraps and derives with every key, whatever its attributes say: the audit finds that
