#!/usr/bin/env bash
# test_journal.sh - sti-hsm journal on the command line, compared with an independent verifier.
#
#   test_journal.sh STI-HSM REPOSITORY
set -euo pipefail

sti_hsm=$1
verifier=$2/docs/examples/journal-verify.py
module=${STI_TEST_MODULE:-/usr/lib/softhsm/libsofthsm2.so}
[ -z "${STI_TEST_TOKEN_COMMAND-}" ] || { echo "skipped: for SoftHSM only" && exit 77; }
command -v python3 >/dev/null || { echo "skipped: no python3" && exit 77; }
[ -f "$module" ] || { echo "skipped: no $module" && exit 77; }

umask 077
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAILED: $*" && exit 1; }

mkdir "$dir/tokens"
printf '%s\n' "directories.tokendir = $dir/tokens" 'objectstore.backend = file' \
    'log.level = ERROR' 'library.reset_on_fork = true' >"$dir/softhsm2.conf"
export SOFTHSM2_CONF=$dir/softhsm2.conf STI_MODULE=$module
printf 2468 >"$dir/pin"
printf 13579 >"$dir/so-pin"
"$sti_hsm" token init --label journaled --so-pin-source "file:$dir/so-pin" \
    --pin-source "file:$dir/pin" >/dev/null
key='pkcs11:token=journaled;object=k'
journal=$dir/journal
export STI_JOURNAL=$journal

python() { python3 "$verifier" --key "$dir/key.pem" "$@"; }

# --- the operator's actions are recorded; commands that use no key write nothing
"$sti_hsm" key generate --token pkcs11:token=journaled --label k --pin-source "file:$dir/pin" >/dev/null
files=$(find "$journal" -name '*.log' | wc -l)
"$sti_hsm" key list --token pkcs11:token=journaled --pin-source "file:$dir/pin" >/dev/null
[ "$(find "$journal" -name '*.log' | wc -l)" = "$files" ] || fail "key list began a file"
for text in one two three; do
    printf %s "$text" | "$sti_hsm" sign --key "$key" --pin-source "file:$dir/pin" >/dev/null
done
two=$(printf two | sha256sum | cut -d' ' -f1)
"$sti_hsm" journal show --signed-digest "$two" --kind operator | grep " $two  sti-hsm  ok$" >/dev/null ||
    fail "the signature of 'two' is not shown"
"$sti_hsm" journal show --json --kind key-generation | jq -e 'select(.who == "sti-hsm")' >/dev/null ||
    fail "no key generation as JSON"
cp "$journal"/????????????????????????????????.pem "$dir/key.pem"

# --- both verifiers accept it, with and without the checkpoints kept elsewhere
"$sti_hsm" journal export >"$dir/kept"
[ "$(grep -c '^— sti-hsm/journal/' "$dir/kept")" = 5 ] || fail "export: not a checkpoint for each file"
"$sti_hsm" journal verify --public-key "$dir/key.pem" --checkpoint "$dir/kept" >"$dir/out" ||
    fail "verify: $(cat "$dir/out")"
python "$journal" >"$dir/out" || fail "the other verifier: $(cat "$dir/out")"
python --checkpoint "$dir/kept" "$journal" >"$dir/out" || fail "the other verifier: $(cat "$dir/out")"

# --- the openssl command alone verifies a checkpoint
sed -n '1,/^$/{/^$/!p}' "$dir/kept" >"$dir/note"
sed -n '/^—/{s/.* //p;q}' "$dir/kept" | base64 -d | tail -c +5 >"$dir/sig"
openssl dgst -sha256 -verify "$dir/key.pem" -signature "$dir/sig" "$dir/note" >/dev/null ||
    fail "openssl does not verify a checkpoint"

# --- proofs
"$sti_hsm" journal prove --signed-digest "$two" >"$dir/proof"
"$sti_hsm" journal prove --check "$dir/proof" --public-key "$dir/key.pem" | grep " $two " >/dev/null ||
    fail "our proof"
python --proof "$dir/proof" | grep " $two " >/dev/null || fail "the other verifier does not take our proof"
sed '3s/index ./index 1/' "$dir/proof" >"$dir/forged"
"$sti_hsm" journal prove --check "$dir/forged" --public-key "$dir/key.pem" >/dev/null 2>&1 &&
    fail "a forged proof was taken"
python --proof "$dir/forged" >/dev/null && fail "the other verifier takes a forged proof"
"$sti_hsm" journal prove --signed-digest "$two" --checkpoint "$dir/kept" >/dev/null ||
    fail "no proof for a checkpoint that was kept"

# --- the count of the token
calls=$("$sti_hsm" journal verify --json | tail -n 1 | jq .calls)
"$sti_hsm" journal verify --token-count $((calls + 100)) --counted-before 100 | grep 'so did the journal' >/dev/null ||
    fail "the same count is told as another"
"$sti_hsm" journal verify --token-count $((calls + 1)) >"$dir/out" && fail "another count is good"
grep -q '^FAULT .*counted' "$dir/out" || fail "another count: $(cat "$dir/out")"

# --- both verifiers find each change and agree on its place
damaged() { # FILE RECORD
    "$sti_hsm" journal verify --public-key "$dir/key.pem" >"$dir/out" && fail "$1: not found"
    grep -q "^FAULT   $1: record $2, octet" "$dir/out" || fail "$1, $2: $(grep FAULT "$dir/out")"
    python "$journal" >"$dir/out" && fail "$1: not found by the other verifier"
    grep -q "^FAULT  $1: record $2\\b" "$dir/out" || fail "$1, $2, by the other: $(cat "$dir/out")"
}
file=$("$sti_hsm" journal show --json --signed-digest "$two" | jq -r .file)
for name in "$file" index; do
    cp "$journal/$name" "$dir/good"
    sed -i '3s/ok/on/' "$journal/$name"
    damaged "$name" 2
    sed '2d' "$dir/good" >"$journal/$name"
    damaged "$name" 1
    { head -n 2 "$dir/good" && tail -n +2 "$dir/good"; } >"$journal/$name"
    damaged "$name" 2
    cp "$dir/good" "$journal/$name"
done
head -n 2 "$dir/good" >"$journal/index"
"$sti_hsm" journal verify --checkpoint "$dir/kept" --public-key "$dir/key.pem" >"$dir/out" &&
    fail "a cut index was not missed by who kept a checkpoint"
python --checkpoint "$dir/kept" "$journal" >"$dir/out" &&
    fail "nor by the other verifier"
cp "$dir/good" "$journal/index"
mv "$journal/$file" "$dir/away"
"$sti_hsm" journal verify >"$dir/out" && fail "a missing file is not missed"
grep -q "^FAULT   $file: is missing" "$dir/out" || fail "a missing file: $(cat "$dir/out")"
python "$journal" >"$dir/out" && fail "a missing file is not missed by the other"
grep -q "^FAULT  $file: is missing" "$dir/out" || fail "a missing file, by the other: $(cat "$dir/out")"
mv "$dir/away" "$journal/$file"
"$sti_hsm" journal verify >/dev/null || fail "it is not as it was"

# --- wrong calls
for wrong in "show --dir" "verify --token-count many" "prove" "prove --file x" \
    "prove --check $dir/proof" "verify --dir /nonexistent"; do
    # shellcheck disable=SC2086 # the words are split on purpose
    "$sti_hsm" journal $wrong >/dev/null 2>&1 && fail "journal $wrong: taken"
done
env -u STI_JOURNAL "$sti_hsm" journal show >/dev/null 2>&1 && fail "show without a journal"
exit 0
