#!/usr/bin/env bash
# Builds a rustc for wasm32-wasip2 from Debian's own packages, for machines where
# rustup cannot download. Called by `cargo xtask wasip2`; nothing outside of the
# folder DEST is written and root is not needed.
#
#   wasip2-from-debian.sh DEST LINKERS
#
# DEST     where the toolchain goes; DEST/bin/rustc is what to set RUSTC to.
# LINKERS  the folder with wasm-component-ld and gcc-ld/wasm-ld of the active
#          toolchain (lib/rustlib/<host>/bin); Debian packages neither.
#
# What makes it work:
# - `rustc-web` is the recent compiler that Debian keeps in stable releases for
#   building browsers, and `rust-web-src` is the source of exactly its standard
#   library. Debian ships no wasip2 build of that library, so it is built here.
# - The library needs a C library for wasip2. bookworm's wasi-libc predates the
#   target; trixie's has it, and being WebAssembly it depends on no other package.
# - Packages are downloaded with a private apt state and unpacked, not installed,
#   so the machine's package database is neither needed nor changed.
set -euo pipefail

dest=${1:?usage: wasip2-from-debian.sh DEST LINKERS}
linkers=${2:?usage: wasip2-from-debian.sh DEST LINKERS}

say() { printf '   wasip2: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

for tool in apt-get dpkg cargo; do
  command -v "$tool" >/dev/null || die "$tool is needed and was not found"
done
[ -x "$linkers/wasm-component-ld" ] || die "the active Rust toolchain has no wasm-component-ld; install Rust through rustup"

mkdir -p "$(dirname "$dest")"
work=$(mktemp -d "$(dirname "$dest")/.wasip2-XXXXXX")
trap 'rm -rf "$work"' EXIT
debs=$work/debs; sysroot=$work/toolchain/usr
mkdir -p "$debs" "$sysroot"

# Runs apt-get with the sources in $work/$1.d and state of its own.
apt() {
  local state=$work/$1; shift
  mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
  # apt drops to the user _apt when run by root, who cannot write in our folder.
  apt-get -qq -o APT::Sandbox::User="$(id -un)" \
    -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$state.d" \
    -o Dir::State::Lists="$state/lists" -o Dir::Cache="$state/cache" "$@"
}

# The machine's own Debian sources; others are left out, since one that cannot be
# reached would fail the whole update.
mkdir -p "$work/native.d" "$work/trixie.d"
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
  if [ -f "$file" ] && grep -qi debian "$file"; then cp "$file" "$work/native.d/"; fi
done
[ -n "$(ls -A "$work/native.d")" ] || die "no Debian package source found in /etc/apt"

say "looking for packages"
apt native update >&2 || die "apt-get update failed; is the Debian mirror in /etc/apt reachable?"
missing=$(apt native -s install --no-install-recommends rustc-web rust-web-src 2>/dev/null \
  | awk '$1 == "Inst" {gsub(/[\[(]/, ""); print $2 "=" ($3 ~ /\]$/ ? $4 : $3)}')
# Nothing to install means that they are installed; they are still unpacked here,
# so that the result does not depend on the system's copy.
[ -n "$missing" ] || missing="rustc-web rust-web-src $(dpkg-query -W -f '${Package}\n' 'libstd-rust-web-*' 'libllvm[0-9]*' 2>/dev/null | tr '\n' ' ')"
case "$missing" in *rustc-web*) ;; *) die "this system's package sources have no rustc-web (Debian 12 and newer do)";; esac

say "downloading the compiler and the sources of its library (about 130 MB)"
# shellcheck disable=SC2086 # one word a package
(cd "$debs" && apt native download $missing >&2) || die "a package could not be downloaded"
for deb in "$debs"/*.deb; do dpkg -x "$deb" "$work/toolchain"; rm "$deb"; done

say "downloading wasi-libc"
(cd "$debs" && apt native download wasi-libc >&2) || die "wasi-libc could not be downloaded"
unpack_libc() { rm -rf "$work/libc"; dpkg -x "$debs"/wasi-libc_*.deb "$work/libc" 2>/dev/null && [ -d "$work/libc/usr/lib/wasm32-wasip2" ]; }
if ! unpack_libc; then
  rm -f "$debs"/*.deb
  mirror=$(awk '/^URIs:/ {print $2; exit} $1 == "deb" {for (i = 2; i <= NF; i++) if ($i ~ /:\/\//) {print $i; exit}}' "$work"/native.d/*)
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" > "$work/trixie.d/trixie.list"
  apt trixie update >&2 || die "the package list of Debian trixie could not be downloaded"
  (cd "$debs" && apt trixie download wasi-libc >&2) || die "wasi-libc of Debian trixie could not be downloaded"
  unpack_libc || die "Debian's wasi-libc has no wasm32-wasip2 library"
fi

# The sysroot: Debian's compiler, the active toolchain's linkers, and the target.
mkdir -p "$work/toolchain/bin"
host=$(basename "$(dirname "$(find "$sysroot/lib/rustlib" -maxdepth 2 -path '*-linux-gnu*/lib' | head -n 1)")")
ln -s "$linkers" "$sysroot/lib/rustlib/$host/bin"
target=$sysroot/lib/rustlib/wasm32-wasip2/lib
mkdir -p "$target/self-contained"
cp "$work"/libc/usr/lib/wasm32-wasip2/* "$target/self-contained/"
cat > "$work/toolchain/bin/rustc" <<'WRAPPER'
#!/bin/sh
# Runs the unpacked compiler with its own libraries and sysroot.
usr=$(dirname "$(dirname "$(readlink -f "$0")")")/usr
for lib in "$usr"/lib/*-linux-gnu; do
  LD_LIBRARY_PATH=$lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
done
export LD_LIBRARY_PATH
exec "$usr/bin/rustc" --sysroot "$usr" "$@"
WRAPPER
chmod +x "$work/toolchain/bin/rustc"

say "building the standard library"
mkdir -p "$work/std/src"
echo '#![no_std]' > "$work/std/src/lib.rs"
printf '[package]\nname = "empty"\nversion = "0.0.0"\nedition = "2024"\n[profile.release]\npanic = "abort"\n[workspace]\n' > "$work/std/Cargo.toml"
# Bitcode is what link-time optimisation of a guest reads from the library.
(cd "$work/std" && unset CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET RUSTC_WRAPPER \
  && RUSTC="$work/toolchain/bin/rustc" RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Cembed-bitcode=yes CARGO_TARGET_DIR="$work/build" \
     cargo build --release --target wasm32-wasip2 -Zbuild-std=std,panic_abort >&2) || die "the standard library did not build"
for rlib in "$work"/build/wasm32-wasip2/release/deps/*.rlib; do
  case $(basename "$rlib") in libempty-*) ;; *) cp "$rlib" "$target/" ;; esac
done

# The library's sources (600 MB) and manuals have served.
rm -rf "$sysroot/src" "$sysroot/share" "$sysroot/lib/rustlib/src" "$dest"
mv "$work/toolchain" "$dest"
say "ready"
