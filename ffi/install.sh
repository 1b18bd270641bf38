#!/bin/sh
# Builds the C library and puts it, its headers and its pkg-config file where C programs find them.
set -eu

usage() {
    cat <<'USAGE'
ffi/install.sh [install | build | uninstall] [options] [-- arguments for cargo]

  --prefix=DIR      below which all is installed              PREFIX       /usr/local
  --libdir=DIR      libraries; may be relative to the prefix  LIBDIR       lib
  --includedir=DIR  headers; may be relative to the prefix    INCLUDEDIR   include
  --destdir=DIR     a root to stage under, as packages do     DESTDIR      none
  --library=DIR     takes the libraries that cargo has built there (target/release), and builds nothing
  --help            this

The second column is the variable of the environment that says the same, the third the default. CARGO, LD, NM,
OBJCOPY and AR name the tools; cargo's own variables (CARGO_TARGET_DIR, CARGO_BUILD_TARGET, CARGO_NET_OFFLINE,
CARGO_PROFILE_LIBRARY_STRIP and so on) work as always:

  ffi/install.sh --prefix="$HOME/.local"
  DESTDIR="$PWD/root" ffi/install.sh --prefix=/usr --libdir=lib/x86_64-linux-gnu -- --offline

Installed are, with the interface 1 of version 0.1.0:

  include/waitqueue.h                  and waitqueue.hpp, where there is one
  lib/libwaitqueue.a                   of which only wq_… is visible
  lib/libwaitqueue.so.1.0.1.0          with the links libwaitqueue.so.1 and libwaitqueue.so
  lib/pkgconfig/waitqueue.pc

build only builds, and says where: for --library, where another user installs who has no cargo.
After installing where the dynamic linker looks by itself, root runs ldconfig. uninstall takes the same options, and
removes these files; folders stay.
USAGE
}

say() { printf 'install.sh: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
action=install
prefix=${PREFIX:-/usr/local}
libdir=${LIBDIR:-lib}
includedir=${INCLUDEDIR:-include}
destdir=${DESTDIR:-}
library=

while [ $# -gt 0 ]; do
    case $1 in
    install | build | uninstall) action=$1 ;;
    --prefix=*) prefix=${1#*=} ;;
    --libdir=*) libdir=${1#*=} ;;
    --includedir=*) includedir=${1#*=} ;;
    --destdir=*) destdir=${1#*=} ;;
    --library=*) library=${1#*=} ;;
    -h | --help)
        usage
        exit
        ;;
    --)
        shift
        break
        ;;
    *) fail "unknown: $1 (--help says what there is)" ;;
    esac
    shift
done

# A folder as an absolute path without a slash at its end: `absolute FOLDER BASE`.
absolute() {
    case $1 in
    /*) path=$1 ;;
    *) path=$2/$1 ;;
    esac
    while [ "$path" != "${path%/}" ]; do path=${path%/}; done
    printf '%s' "$path"
}
prefix=$(absolute "$prefix" "$PWD")
libdir=$(absolute "$libdir" "$prefix")
includedir=$(absolute "$includedir" "$prefix")
[ -z "$destdir" ] || destdir=$(absolute "$destdir" "$PWD")

interface=$(sed -n 's/^#define WQ_INTERFACE //p' "$here/include/waitqueue.h")
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$here/../Cargo.toml" | head -n 1)
if [ -z "$interface" ] || [ -z "$version" ]; then
    fail "no number of the interface, or no version, beside this script"
fi
soname=libwaitqueue.so.$interface
file=$soname.$version
to_lib=$destdir$libdir
to_include=$destdir$includedir

# Removes the shared library's file of this interface, of whatever version, but for the one named.
remove_versions() {
    for old in "$to_lib/$soname".*; do
        [ "$old" = "$to_lib/${1:-}" ] || rm -f -- "$old"
    done
}

if [ "$action" = uninstall ]; then
    rm -f -- "$to_include/waitqueue.h" "$to_include/waitqueue.hpp" "$to_lib/pkgconfig/waitqueue.pc" \
        "$to_lib/libwaitqueue.a" "$to_lib/libwaitqueue.so" "$to_lib/$soname"
    remove_versions
    exit
fi

umask 022
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
trap 'exit 1' HUP INT TERM

# Where cargo says that it has put the file of that ending.
built() { sed -n "s/.*\"\\([^\"]*libwaitqueue_ffi\\.$1\\)\".*/\\1/p" "$work/messages" | tail -n 1; }

if [ -n "$library" ] && [ "$action" = install ]; then
    archive=$library/libwaitqueue_ffi.a
    shared=$library/libwaitqueue_ffi.so
else
    case ${CARGO_TARGET_DIR:-/} in
    /*) ;;
    *) export CARGO_TARGET_DIR="$PWD/$CARGO_TARGET_DIR" ;;
    esac
    [ ! -e "$here/../Cargo.lock" ] || set -- --locked "$@"
    # In that folder, for the settings of cargo that are above it.
    (cd -- "$here" && "${CARGO:-cargo}" rustc --lib --profile library --crate-type=cdylib,staticlib \
        --message-format=json-render-diagnostics "$@") >"$work/messages"
    archive=$(built a)
    shared=$(built so)
fi
[ -e "$archive" ] || fail "there is no static library ${archive:-of cargo}"
[ -e "$shared" ] || say "there is no shared library for this target"
if [ "$action" = build ]; then
    dirname -- "$archive"
    exit
fi

# One object in which only the interface is visible, so that nothing of Rust's meets another Rust library in a program. It
# is code alone: what was kept for other compilers would be read by the plugins of these tools.
localise() {
    roots=$("${NM:-nm}" -g --defined-only "$archive" 2>/dev/null | sed -n 's/^.* T \(wq_.*\)$/-u \1/p')
    [ -n "$roots" ] || return 1
    # Both are lists of words.
    # shellcheck disable=SC2086
    ${LD:-ld} -r --force-group-allocation $roots -o "$work/linked.o" "$archive" &&
        "${OBJCOPY:-objcopy}" --wildcard --keep-global-symbol='wq_*' --strip-unneeded \
            --remove-section=.llvmbc --remove-section=.llvmcmd "$work/linked.o" "$work/waitqueue.o" &&
        "${AR:-ar}" rcs "$work/libwaitqueue.a" "$work/waitqueue.o"
}
if ! localise; then
    say "the symbols of the static library cannot be localised by these tools: it is installed as it is"
    cp -- "$archive" "$work/libwaitqueue.a"
fi

# A folder below the prefix, in the words of a pkg-config file.
below_prefix() {
    # pkg-config expands it.
    # shellcheck disable=SC2016
    case $1 in
    "$prefix"/*) printf '${prefix}%s' "${1#"$prefix"}" ;;
    *) printf '%s' "$1" ;;
    esac
}
cat >"$work/waitqueue.pc" <<PC
prefix=$prefix
libdir=$(below_prefix "$libdir")
includedir=$(below_prefix "$includedir")

Name: waitqueue
Description: The Linux kernel's wait queues for processes that share memory, right under kill -9
Version: $version
Cflags: -I"\${includedir}" -pthread
Libs: -L"\${libdir}" -lwaitqueue
Libs.private: -pthread -lm -ldl
PC

# Never into an installed file, which a running program may have mapped: `put FILE FOLDER NAME MODE`.
put() {
    cp -- "$1" "$2/.$3.new"
    chmod "$4" "$2/.$3.new"
    mv -f -- "$2/.$3.new" "$2/$3"
    printf '%s\n' "$2/$3"
}
link() {
    ln -s -f -- "$1" "$to_lib/$2"
    printf '%s\n' "$to_lib/$2"
}

mkdir -p -- "$to_include" "$to_lib/pkgconfig"
for header in waitqueue.h waitqueue.hpp; do
    [ ! -e "$here/include/$header" ] || put "$here/include/$header" "$to_include" "$header" 644
done
put "$work/libwaitqueue.a" "$to_lib" libwaitqueue.a 644
if [ -e "$shared" ]; then
    put "$shared" "$to_lib" "$file" 755
    link "$file" "$soname"
    link "$soname" libwaitqueue.so
    remove_versions "$file"
fi
put "$work/waitqueue.pc" "$to_lib/pkgconfig" waitqueue.pc 644
