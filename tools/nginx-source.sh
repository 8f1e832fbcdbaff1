#!/bin/bash
#
# nginx-source.sh DIR [TREE]
#
# Puts an nginx source tree into DIR/nginx: a copy of TREE, or the upstream
# tarball of Debian's source package.

set -eu

dir=$1
tree=${2:-}

rm -rf "$dir"
mkdir -p "$dir"

if [ -n "$tree" ]; then
    cp -R "$tree/." "$dir/nginx"
    [ -f "$dir/nginx/configure" ] || cp "$dir/nginx/auto/configure" "$dir/nginx/configure"
    exit 0
fi

cd "$dir"
mkdir -p lists/partial

# source entries beside the binary ones, without touching the system's

for f in /etc/apt/sources.list.d/*.sources; do
    [ -f "$f" ] && sed 's/^Types:.*/Types: deb-src/' "$f" | grep -v '^#' && echo
done > src.sources 2>/dev/null || true

[ -s src.sources ] || {
    sed -n 's/^deb /deb-src /p' /etc/apt/sources.list > src.list
}

src=$dir/src.sources
[ -s src.sources ] || src=$dir/src.list

apt="-o Dir::Etc::sourcelist=$src -o Dir::Etc::sourceparts=/dev/null
     -o Dir::State::lists=$dir/lists -o APT::Sandbox::User=root"

apt-get $apt update > apt.log 2>&1 || true

# a file of the package may have gone from the archive; the tarball is enough

apt-get $apt source --download-only nginx >> apt.log 2>&1 || true

tarball=$(ls nginx_*.orig.tar.gz 2>/dev/null | head -n 1)

[ -n "$tarball" ] || {
    echo "no nginx source package could be had, give NGINX_SRC=dir" >&2
    exit 1
}

mkdir nginx
tar -xzf "$tarball" -C nginx --strip-components=1
