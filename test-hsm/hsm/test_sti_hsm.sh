#!/bin/sh
# test_sti_hsm.sh PROGRAM - sti-hsm as people run it, on a throw-away SoftHSM.
set -u

program=$1
module=${STI_TEST_MODULE:-/usr/lib/softhsm/libsofthsm2.so}
pin=975318642
so_pin=864297531
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failures=0

[ -r "$module" ] || { echo "skipped: no $module"; exit 77; }
mkdir "$dir/tokens"
cat >"$dir/softhsm2.conf" <<END
directories.tokendir = $dir/tokens
objectstore.backend = file
log.level = ERROR
library.reset_on_fork = true
END
export SOFTHSM2_CONF="$dir/softhsm2.conf"
export STI_MODULE="$module"
umask 077
echo "$pin" >"$dir/pin"
echo "$so_pin" >"$dir/so-pin"
echo 111111 >"$dir/wrong-pin"
printf 'hello' >"$dir/message"

fail() {
    failures=$((failures + 1))
    echo "FAIL: $*"
    sed 's/^/    /' "$dir/out" "$dir/err"
}

# run WANTED-STATUS ARGUMENT...: keeps what came out in $dir/out and $dir/err, and all of it in $dir/all.
run() {
    wanted=$1
    shift
    timeout 60 "$program" "$@" >"$dir/out" 2>"$dir/err" </dev/null
    status=$?
    cat "$dir/out" "$dir/err" >>"$dir/all"
    [ "$status" -eq "$wanted" ] || fail "sti-hsm $*: exit status $status, not $wanted"
}

# said WORD...: the last run wrote this to standard output; told: to standard error.
said() { grep -q -- "$*" "$dir/out" || fail "not said: $*"; }
told() { grep -q -- "$*" "$dir/err" || fail "not told: $*"; }
quiet() { [ ! -s "$dir/out" ] || fail "something on standard output"; }

token="pkcs11:token=shelf"
here="$token?pin-source=file:$dir/pin"
key="$token;object=signer?pin-source=file:$dir/pin"

# ---- help and wrong usage
for level in "" "token" "key" "token init" "token show" "key generate" "key list" "key show" \
    "key destroy" "sign"; do
    # shellcheck disable=SC2086 # words
    run 0 $level --help
    said usage
    # shellcheck disable=SC2086
    run 0 $level --version
    said "^sti-hsm [0-9]"
done
run 0 sign --help
said --digest
for words in "" "key" "nonsense" "key nonsense" "--nonsense" "sign --nonsense" "key list --label x" \
    "key list" "key generate --token $here" "token init" "sign" "token show a b" "key list $here" \
    "sign --key $key --out pem" "sign --key $key --digest 00" "sign --key $key --digest zz" \
    "sign --key $key --digest 00 --in $dir/message" "key list --token $here --log-format xml" \
    "key list --token $here --log-level loud" "key list --token $token?pin-value=$pin"; do
    # shellcheck disable=SC2086
    run 2 $words
    quiet
done

# ---- token
run 0 token init --label shelf --so-pin-source "file:$dir/so-pin" --pin-source "file:$dir/pin"
run 1 token init --label shelf --so-pin-source "file:$dir/so-pin" --pin-source "file:$dir/pin"
told "exists already"
run 1 token init --label other --so-pin-source "file:$dir/absent" --pin-source "file:$dir/pin"
run 1 token init --module /absent.so --label other --so-pin-source "file:$dir/so-pin" \
    --pin-source "file:$dir/pin"
run 0 token show
said shelf
run 0 token show "$token"
said "ECDSA signatures *yes"
run 1 token show pkcs11:token=absent
told "no token matches"
run 1 token show "$token;token=shelf"

# ---- key
run 0 key generate --token "$token" --label signer --pin-source "file:$dir/pin"
said "label *signer"
said "BEGIN PUBLIC KEY"
run 1 key generate --token "$here" --label signer
told "exists already"
run 0 key generate --token "$here" --label second
run 0 key list --token "$here"
said "^signer .* P-256 *yes *yes *no *yes *yes *yes$"
said "^second "
[ "$(wc -l <"$dir/out")" -eq 3 ] || fail "key list: not a heading and two keys"
run 0 key show --key "$key"
said "uri *pkcs11:"
sed -n '/BEGIN PUBLIC/,/END PUBLIC/p' "$dir/out" >"$dir/public.pem"
run 0 key show --token "$here" --key "pkcs11:object=signer"
run 1 key show --key "$token;object=absent?pin-source=file:$dir/pin"
told "not found"
run 2 key show --key "$here"

# ---- sign
run 0 sign --key "$key" --in "$dir/message" --out der
openssl dgst -sha256 -verify "$dir/public.pem" -signature "$dir/out" "$dir/message" >/dev/null ||
    fail "openssl does not verify"
digest=$(openssl dgst -sha256 -r "$dir/message" | cut -d' ' -f1)
run 0 sign --key "$key" --digest "$digest" --out der
openssl dgst -sha256 -verify "$dir/public.pem" -signature "$dir/out" "$dir/message" >/dev/null ||
    fail "openssl does not verify the signature of a digest"
"$program" sign --key "$key" --out der <"$dir/message" >"$dir/out" 2>"$dir/err" ||
    fail "cannot sign standard input"
openssl dgst -sha256 -verify "$dir/public.pem" -signature "$dir/out" "$dir/message" >/dev/null ||
    fail "openssl does not verify the signature of standard input"
run 0 sign --key "$key" --in "$dir/message"
[ "$(tr -d '\n' <"$dir/out" | wc -c)" -eq 86 ] || fail "base64url of 64 octets has 86 characters"
[ "$(tr -d 'A-Za-z0-9_\n-' <"$dir/out" | wc -c)" -eq 0 ] || fail "not base64url"
printf '%s==\n' "$(tr -- -_ +/ <"$dir/out")" | openssl base64 -d -A >"$dir/raw" ||
    fail "openssl does not decode it"
[ "$(wc -c <"$dir/raw")" -eq 64 ] || fail "base64url does not hold 64 octets"
run 0 sign --key "$key" --in "$dir/message" --out raw
[ "$(wc -c <"$dir/out")" -eq 64 ] || fail "raw has 64 octets"
run 0 sign --key "$key" --in "$dir/message" --out hex
grep -Eq '^[0-9a-f]{128}$' "$dir/out" || fail "hex has 128 digits"
run 1 sign --key "$key" --in "$dir/absent"
quiet
run 1 sign --key "$key" --in "$dir"
quiet

# ---- PINs
run 1 sign --key "$token;object=signer" --in "$dir/message" --pin-source "file:$dir/wrong-pin"
told CKR_PIN_INCORRECT
quiet
run 1 sign --key "$token;object=signer" --in "$dir/message" --pin-source "file:$dir/absent"
setsid "$program" sign --key "$token;object=signer" --in "$dir/message" >"$dir/out" 2>"$dir/err" \
    </dev/null && fail "signed without a PIN"
told "no terminal"
"$program" sign --key "$token;object=signer" --in "$dir/message" --pin-source fd:3 3<"$dir/pin" \
    >"$dir/out" 2>"$dir/err" || fail "no PIN from a descriptor"
CREDENTIALS_DIRECTORY=$dir run 0 sign --key "$token;object=signer" --in "$dir/message" \
    --pin-source credential:pin
run 2 --log-format json # options follow their command
run 1 key show --key "$token;object=absent?pin-source=file:$dir/pin" --log-format json
grep -q '^{"time":".*","level":"error","program":"sti-hsm","message":".*"}$' "$dir/err" ||
    fail "not a line of JSON"

# ---- what other tools see, and destruction
if command -v pkcs11-tool >/dev/null; then
    pkcs11-tool --module "$module" --token-label shelf --login --pin "$pin" -O --type privkey \
        >"$dir/out" 2>"$dir/err" || fail "pkcs11-tool"
    [ "$(grep -c 'sensitive, always sensitive, never extractable, local' "$dir/out")" -eq 2 ] ||
        fail "pkcs11-tool does not see two keys that cannot leave"
    pkcs11-tool --module "$module" --token-label shelf --login --pin "$pin" --keypairgen \
        --key-type EC:prime256v1 --label loose --id 77 --extractable >/dev/null 2>"$dir/err" ||
        fail "pkcs11-tool generates"
    run 1 sign --key "$token;object=loose?pin-source=file:$dir/pin" --in "$dir/message"
    told "refused: CKA_"
    quiet
    run 0 key list --token "$here"
    said "^loose .* NO$"
fi
run 2 key destroy --key "$token;object=second?pin-source=file:$dir/pin"
told "say --yes"
run 0 key destroy --key "$token;object=second?pin-source=file:$dir/pin" --yes
said "second: destroyed"
run 1 key destroy --key "$token;object=second?pin-source=file:$dir/pin" --yes
run 0 key list --token "$here"
grep -q '^second' "$dir/out" && fail "destroyed and still listed"

# ---- nothing of what was kept secret came out
for secret in "$pin" "$so_pin"; do
    grep -q "$secret" "$dir/all" && fail "a PIN came out"
done

[ "$failures" -eq 0 ] || { echo "$failures failed"; exit 1; }
echo "all passed"
