#!/usr/bin/env bash
# The tests and files to which the documents refer exist.
set -euo pipefail
source=$1 build=$3
cd "$source"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
wrong=0

tell() {
    echo "$1"
    wrong=1
}

# The tests named in `ctest ... -R EXPRESSION` and in tables as `floor/test`.
ctest --test-dir "$build" -N | sed -n 's/^ *Test *#[0-9]*: //p' >"$work/tests"
[ "$(wc -l <"$work/tests")" -gt 100 ]
documents=(README.md CONTRIBUTING.md docs/*.md test-hsm/*/*.md)
commands=0
while IFS=: read -r page command; do
    expression=$(sed -E "s/.* -R +//; s/^'(.*)'\$/\1/" <<<"$command")
    grep -qE -- "$expression" "$work/tests" || tell "$page: no test is called $expression"
    commands=$((commands + 1))
done < <(grep -oE "ctest [^\`]*-R ('[^']*'|[^ \`]+)" "${documents[@]}")
[ "$commands" -gt 10 ]
named=0
while read -r test; do
    grep -qxF -- "$test" "$work/tests" || tell "docs/ATIS-1000080.md: no test is called $test"
    named=$((named + 1))
done < <(awk -F'|' '/^[|]/ { print $(NF - 1) }' docs/ATIS-1000080.md | grep -oE '[a-z0-9]+/[a-z0-9_]+')
[ "$named" -gt 40 ]

# [text](file): relative to its page.
links=0
while IFS=: read -r page link; do
    target=${link#*](}
    target=${target%)}
    target=${target%%#*}
    case $target in '' | http://* | https://*) continue ;; esac
    [ -e "$(dirname "$page")/$target" ] || tell "$page: there is no $target"
    links=$((links + 1))
done < <(grep -oE '\]\([^) ]+\)' "${documents[@]}")
[ "$links" -gt 50 ]

# No secret is shown as an argument or in the environment, and the ceremony leaves no core dump.
while IFS= read -r found; do
    tell "$found: a secret in arguments or environment"
done < <(grep -rnE 'Bearer \$[({]|env:[A-Za-z_]*PIN|(--pin|--password)[ =]' README.md CONTRIBUTING.md docs scripts || true)
awk '/^ulimit -c 0/ { found = NR } /ask_secret|pin=/ && !first { first = NR }
    END { exit !(found && first && found < first) }' scripts/ceremony ||
    tell 'scripts/ceremony: a core may be written'
[ "$wrong" -eq 0 ]
echo "$commands commands, $named tests, $links links"
