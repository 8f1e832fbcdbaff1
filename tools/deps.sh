#!/bin/bash
#
# deps.sh build|build-src|all check|install
#
# Says in one line which Debian packages are missing, or installs them.

set -u

what=${1:-all}
how=${2:-check}

libs="libssl-dev libjansson-dev libhiredis-dev libcurl4-openssl-dev"
build="gcc libc6-dev make $libs nginx nginx-dev"
source="gcc libc6-dev make $libs libpcre2-dev zlib1g-dev"
test="docker-registry skopeo curl openssl perl libpcre2-dev zlib1g-dev
      procps jq redis-server mandoc"

case $what in
    build)      want=$build ;;
    build-src)  want=$source ;;
    *)          want="$build $test" ;;
esac

missing=

for p in $want; do
    dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null \
        | grep -qx installed || missing="$missing $p"
done

[ -z "$missing" ] && exit 0

if [ "$how" = check ]; then
    echo "missing Debian packages:$missing (make deps installs them)" >&2
    exit 1
fi

sudo=
if [ "$(id -u)" != 0 ]; then
    sudo=$(command -v sudo) || {
        echo "run as root: apt-get install$missing" >&2
        exit 1
    }
fi

# packages start services of their own, which nobody asked for here

policy=/usr/sbin/policy-rc.d
made=

if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" > /dev/null
    $sudo chmod 755 "$policy"
    made=1
fi

trap '[ -n "$made" ] && $sudo rm -f "$policy"' EXIT

echo "installing:$missing"

export DEBIAN_FRONTEND=noninteractive

install() {
    $sudo apt-get install -y -q --no-install-recommends $missing > "$log" 2>&1
}

log=$(mktemp)

# lists may be old or not there at all

install || { $sudo apt-get update -q >> "$log" 2>&1; install; } || {
    tail -n 20 "$log" >&2
    rm -f "$log"
    exit 1
}

rm -f "$log"
