#!/usr/bin/env bash
# test_audit_program.sh SOURCE BIN FAULT_MODULE - sti-hsm audit as an auditor runs it, and the
# instructions in docs/AUDIT.md for its report without our programs, on a throw-away SoftHSM.
set -u
source=$1 bin=$2 fault_module=$3
module=${STI_TEST_MODULE:-/usr/lib/softhsm/libsofthsm2.so}
dir=$(mktemp -d)
holder=''
finish() {
    [ -z "$holder" ] || kill "$holder" 2>/dev/null
    rm -rf "$dir"
}
trap finish EXIT
failures=0

[ -r "$module" ] || { echo "skipped: no $module" && exit 77; }
mkdir "$dir/tokens" "$dir/deployed"
printf '%s\n' "directories.tokendir = $dir/tokens" 'objectstore.backend = file' 'log.level = ERROR' \
    'library.reset_on_fork = true' >"$dir/softhsm2.conf"
export SOFTHSM2_CONF="$dir/softhsm2.conf" STI_MODULE="$module"
umask 077
pin=975318642
echo "$pin" >"$dir/pin"
echo 864297531 >"$dir/so-pin"

fail() {
    failures=$((failures + 1))
    echo "FAIL: $*"
    sed 's/^/    /' "$dir/out" "$dir/err" | head -n 60
}

run() { # WANTED-STATUS ARGUMENT ...
    local wanted=$1
    shift
    timeout 60 "$bin/sti-hsm" "$@" >"$dir/out" 2>"$dir/err" </dev/null
    local status=$?
    cat "$dir/out" "$dir/err" >>"$dir/all"
    [ "$status" -eq "$wanted" ] || fail "sti-hsm $*: exit status $status, not $wanted"
}
said() { grep -q -- "$*" "$dir/out" || fail "not said: $*"; }
told() { grep -q -- "$*" "$dir/err" || fail "not told: $*"; }

token="pkcs11:token=shelf"
here="$token?pin-source=file:$dir/pin"
audit_key="$token;object=audit?pin-source=file:$dir/pin"
run 0 token init --label shelf --so-pin-source "file:$dir/so-pin" --pin-source "file:$dir/pin"
run 0 key generate --token "$here" --label signer
run 0 key generate --token "$here" --label audit
sed -n '/BEGIN PUBLIC/,/END PUBLIC/p' "$dir/out" >"$dir/audit.pub"

# ---- usage: 2 and no standard output
for words in "" "--attempt" "--report $dir/r --token $here" "--process 0" "--process x" \
    "--files /absent" "--token pkcs11:token=absent?pin-source=file:$dir/pin" \
    "--token $here --attestation $dir/pin" "--token $here --json --html" \
    "--token $here --attempt" "verify" "verify /absent" "verify a b" "show" \
    "--process 999999999" "--process $$ --secret-source file:$dir/pin"; do
    # shellcheck disable=SC2086 # words
    run 2 audit $words
    [ ! -s "$dir/out" ] || fail "something on standard output: audit $words"
done
run 2 audit --token "$here" --attempt
told "say --yes"
told "to each private key"
run 2 audit --token "$here" --nonce ''

# ---- clean: 0; one fault: 1
run 0 audit --token "$here" --uncertified signer,audit
said '^Clean\.'
run 1 audit --token "$here" --uncertified audit
said '^NOT CLEAN\.'
said 'finding *key.certificate'
run 0 audit --token "$here" --uncertified signer --key "$audit_key" --report "$dir/report" \
    --attempt --yes --nonce 'question 42' --files "$dir"
[ ! -s "$dir/out" ] || fail "a report on standard output beside the files"
for form in jws json txt html; do
    [ "$(stat -c %a "$dir/report.$form")" = 600 ] || fail "report.$form: not there, or for others"
done
run 0 key list --token "$here"
[ "$(wc -l <"$dir/out")" -eq 3 ] || fail "an attempt left a key behind"

# ---- verification: without the token
mv "$dir/tokens" "$dir/away"
run 0 audit verify "$dir/report.jws"
said 'NOT COMPARED'
said '^CLEAN'
said 'question 42'
run 0 audit verify "$dir/report.jws" --signer "$dir/audit.pub"
said 'the key that was named'
openssl ecparam -name prime256v1 -genkey -noout 2>/dev/null | openssl ec -pubout -out "$dir/other.pub" 2>/dev/null
run 1 audit verify "$dir/report.jws" --signer "$dir/other.pub"
told 'another key'
run 2 audit verify "$dir/report.jws" --signer "$dir/pin"
run 0 audit show "$dir/report.jws"
cmp -s "$dir/out" "$dir/report.txt" || fail "show differs from what was written"
run 0 audit show "$dir/report.jws" --html
cmp -s "$dir/out" "$dir/report.html" || fail "show --html differs from what was written"
run 0 audit show "$dir/report.jws" --json
cmp -s "$dir/out" "$dir/report.json" || fail "show --json differs from what was written"
sed 's/./B/100' "$dir/report.jws" >"$dir/changed.jws"
run 1 audit verify "$dir/changed.jws"
run 1 audit verify "$dir/report.json"
mv "$dir/away" "$dir/tokens"

# ---- the commands of docs/AUDIT.md with openssl and pkcs11-tool
# shellcheck disable=SC2016 # of Markdown
sed -n '/^```sh$/,/^```$/p' "$source/docs/AUDIT.md" | grep -v '^```' >"$dir/by-hand"
[ -s "$dir/by-hand" ] || fail "docs/AUDIT.md has no commands"
if command -v pkcs11-tool >/dev/null && command -v jq >/dev/null; then
    (cd "$dir" && REPORT=report.jws MODULE=$module TOKEN=shelf \
        "$source/test-hsm/hsm/at_terminal.py" 'Please enter User PIN: ' bash -euo pipefail by-hand) \
        <<<"$pin" >"$dir/out" 2>"$dir/err" || fail "the commands of docs/AUDIT.md"
    said 'Verified OK'
    said 'Signature is valid'
fi

# ---- the schema agrees with the report
if command -v jq >/dev/null; then
    schema="$source/docs/schema/audit-report.json"
    jq -e . "$schema" >/dev/null || fail "the schema is no JSON"
    # shellcheck disable=SC2016 # jq's
    jq -ne --slurpfile schema "$schema" --slurpfile report "$dir/report.json" '
        def fits($s; $v): # the part of JSON Schema that the file uses
            (if $s["$ref"] then $schema[0]["$defs"][$s["$ref"] | ltrimstr("#/$defs/")] else $s end) as $s
            | (($s.type // []) | if type == "array" then . else [.] end) as $types
            | ($v | type | if . == "number" then "integer" else . end) as $type
            | ($types == [] or ($types | index($type)) != null)
            and (($s.enum // [$v]) | index([$v]) != null)
            and (($s.const // $v) == $v)
            and ($s.pattern == null or $type != "string" or ($v | test($s.pattern)))
            and ($type != "object" or (
                (($s.required // []) - ($v | keys) == [])
                and ($s.additionalProperties != false or (($v | keys) - ($s.properties | keys) == []))
                and ([($s.properties // {}) | to_entries[] as $p | select($v | has($p.key))
                    | fits($p.value; $v[$p.key])] | all)))
            and ($type != "array" or $s.items == null or ([$v[] | fits($s.items; .)] | all));
        fits($schema[0]; $report[0])' >"$dir/out" 2>"$dir/err" || fail "the report does not fit its schema"
    jq -r '.["$defs"].statement.properties.id.enum[]' "$schema" | sort >"$dir/ids"
    grep -oE '^ *\{"[a-z]+\.[a-z-]+"' "$source/hsm/src/audit_statement.c" | grep -oE '[a-z]+\.[a-z-]+' | sort |
        cmp -s - "$dir/ids" || fail "the schema has other ids than the code"
    while read -r id; do
        grep -qF "\`$id\`" "$source/docs/AUDIT.md" || fail "docs/AUDIT.md does not tell of $id"
    done <"$dir/ids"
fi

# ---- a module that gives false answers, and one that gives none
if command -v pkcs11-tool >/dev/null; then
    PIN=$pin pkcs11-tool --module "$module" --token-label shelf --login --pin env:PIN --keypairgen \
        --key-type EC:prime256v1 --label loose --id 77 --extractable >/dev/null 2>"$dir/err" ||
        fail "pkcs11-tool generates"
    export STI_FAULT_MODULE="$module" STI_FAULT_SCRIPT="$dir/script"
    printf 'on C_GetAttributeValue attribute %s\n' 'CKA_EXTRACTABLE false' 'CKA_NEVER_EXTRACTABLE true' >"$dir/script"
    lying=(--module "$fault_module" --token "$here" --uncertified "signer,audit,loose")
    run 1 audit "${lying[@]}" --json
    jq -e '[.statements[] | select(.id == "key.extractable") | .verdict] | all(. == "pass")' "$dir/out" >/dev/null ||
        fail "the module does not lie"
    run 1 audit "${lying[@]}" --attempt --yes --json
    jq -e '[.statements[] | select(.id == "attempt.wrap" and .verdict == "finding") | .subject] | unique
        | length == 1 and (.[0] | contains("object=loose"))' "$dir/out" >/dev/null ||
        fail "a lie about CKA_EXTRACTABLE is not found out"
    echo 'on C_GetAttributeValue attribute CKA_NEVER_EXTRACTABLE missing' >"$dir/script"
    run 1 audit "${lying[@]}" --json
    jq -e '.summary.unproven == 3' "$dir/out" >/dev/null || fail "what is not told is not unproven"
    echo 'on C_GetAttributeValue rv CKR_DEVICE_ERROR' >"$dir/script"
    run 2 audit "${lying[@]}"
    unset STI_FAULT_MODULE STI_FAULT_SCRIPT
    run 0 key destroy --key "$token;object=signer?pin-source=file:$dir/pin" --yes
fi

# ---- a key file in the directory, a secret in a process
"$bin/softhsm_scalars" "$dir/tokens" shelf "$dir/pin" | wc -w | grep -qx 2 || fail "not two scalars"
run 0 audit --files "$dir/deployed"
openssl ecparam -name prime256v1 -genkey -noout -out "$dir/deployed/forgotten.key"
run 1 audit --files "$dir/deployed"
said 'finding *file.private-key'
[ "$(grep -c '^  finding  ' "$dir/out")" -eq 2 ] || fail "not the count and one finding"
rm "$dir/deployed/forgotten.key"
sleep 60 &
holder=$!
# CAP_SYS_PTRACE: the program is not dumpable, and searches a child process first
if "$bin/sti-hsm" audit --process "$holder" 2>&1 | grep -q 'Permission denied'; then
    run 2 audit --process "$holder"
    echo "the memory of other processes may not be read here"
else
    run 0 audit --process "$holder"
    said 'planted forms found'
fi

# ---- no secret was printed
cat "$dir"/report.* >>"$dir/all"
grep -q "$pin" "$dir/all" && fail "the PIN came out"
"$bin/softhsm_scalars" "$dir/tokens" shelf "$dir/pin" | tr ' ' '\n' | grep . | grep -qif - "$dir/all" &&
    fail "a scalar came out"

[ "$failures" -eq 0 ] || { echo "$failures failed" && exit 1; }
echo "all passed"
