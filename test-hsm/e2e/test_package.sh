#!/usr/bin/env bash
# The installed package is usable: one consumer uses find_package(), another pkg-config.
set -euo pipefail
source=$1 build=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

sanitize=$(sed -n 's/^STI_SANITIZE:STRING=//p' "$build/CMakeCache.txt")
compiler=$(sed -n 's/^CMAKE_C_COMPILER:[A-Z]*=//p' "$build/CMakeCache.txt")
flags=${sanitize:+-fsanitize=$sanitize}

cmake --install "$build" --prefix "$work/prefix" >/dev/null

mkdir "$work/consumer"
cp "$source/test-hsm/e2e/consumer.c" "$work/consumer/"
cat >"$work/consumer/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.25)
project(consumer LANGUAGES C)
find_package(sti-hsm 0.1 REQUIRED)
add_executable(consumer consumer.c)
target_link_libraries(consumer PRIVATE stir::sks stir::certs stir::hsm)
CMAKE
cmake -S "$work/consumer" -B "$work/by-cmake" -G Ninja -DCMAKE_PREFIX_PATH="$work/prefix" \
    -DCMAKE_C_COMPILER="$compiler" -DCMAKE_C_FLAGS="$flags" >/dev/null
cmake --build "$work/by-cmake" >/dev/null
[ "$("$work/by-cmake/consumer")" = "12155551212 SPC 1234" ]

PKG_CONFIG_PATH=$(dirname "$(find "$work/prefix" -name libstihsm.pc)")
export PKG_CONFIG_PATH
# shellcheck disable=SC2046,SC2086 # flags are split on purpose
"$compiler" $flags -o "$work/by-pkg-config" "$work/consumer/consumer.c" \
    $(pkg-config --cflags --libs libstihsm)
[ "$("$work/by-pkg-config")" = "12155551212 SPC 1234" ]

[ "$(find "$work/prefix" -path '*/man/man[18]/sti-*' | wc -l)" -eq 6 ]
[ "$(find "$work/prefix/lib/systemd/system" -name 'sti-*.service' | wc -l)" -eq 4 ]
for file in README.md LICENSE INSTALL.md examples/grafana-sti.json examples/prometheus-sti.rules.yml \
    examples/kamailio/verifier.cfg schema/audit-report.json; do
    [ -f "$work/prefix/share/doc/sti-hsm/$file" ] || { echo "FAILED: $file is not installed" && exit 1; }
done
"$work/prefix/bin/sti-ceremony" --help | grep -q -- --rehearse
[ -f "$work/prefix/lib/sysusers.d/sti-hsm.conf" ]
"$work/prefix/bin/sti-cert" --version | grep -q '^sti-cert 0\.1\.'
echo "installed, found by CMake and by pkg-config"
