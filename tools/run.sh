#!/bin/bash
#
# run.sh: an edge to try.  See "make run" in README.md.
#
#   UPSTREAM=https://registry.example   fronts that; else a registry with a
#                                       generated model is started
#   MODEL_SIZE=1g                       of the generated model
#   PORT=8080                           of the edge
#   RUN_ONCE=1                          ends after the table
#   NGINX, MODULES                      other binaries than the usual ones

set -u
export LC_ALL=C

top=$(cd "$(dirname "$0")/.." && pwd)
modules=${MODULES:-$top/build/modules}
nginx=${NGINX:-nginx}
port=${PORT:-8080}
upstream=${UPSTREAM:-}
dir=
job=
pids=()

PATH=$PATH:/usr/sbin:/sbin


fail() {
    echo "make run: $*" >&2
    exit 1
}

finish() {
    trap - EXIT
    trap '' HUP INT PIPE TERM
    for pid in $job "${pids[@]}"; do
        kill "$pid" 2>/dev/null
    done
    for pid in $job "${pids[@]}"; do
        wait "$pid" 2>/dev/null
    done
    [ -n "$dir" ] && rm -rf "$dir"
}

trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM


# bash handles a signal only after a command in the foreground has ended, but
# a signal ends "wait" at once.  "<&0" as bash gives such a command no input

run() {
    local rc
    "$@" <&0 &
    job=$!
    wait "$job"
    rc=$?
    job=
    return $rc
}


bytes() {
    local n=${1%[kKmMgGtT]}
    case $n in ''|*[!0-9]*|????????????????*) return 1 ;; esac
    n=$((10#$n))
    case $1 in
        *[kK]) n=$((n << 10)) ;;
        *[mM]) n=$((n << 20)) ;;
        *[gG]) n=$((n << 30)) ;;
        *[tT]) n=$((n << 40)) ;;
    esac
    echo "$n"
}

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

wait_port() {
    for _ in $(seq 200); do
        kill -0 "$2" 2>/dev/null || return 1
        listening "$1" && return 0
        sleep 0.05
    done
    return 1
}

free_port() {
    local p
    for _ in $(seq 100); do
        p=$((20000 + RANDOM % 8000))
        [ "$p" = "$port" ] || listening "$p" || { echo "$p"; return; }
    done
    return 1
}


size=$(bytes "${MODEL_SIZE:-1g}") || fail "MODEL_SIZE=$MODEL_SIZE is no size"
[ "$size" -ge 1048576 ] || fail "MODEL_SIZE=$MODEL_SIZE is less than 1m"

case $port in
    ''|0*|*[!0-9]*|??????*) fail "PORT=$port is no port" ;;
esac
[ "$port" -le 65535 ] || fail "PORT=$port is no port"

case $upstream in
    ''|http://?*|https://?*) ;;
    *) fail "UPSTREAM=$upstream has neither http:// nor https://" ;;
esac

[ -f "$modules/ngx_http_oci_cache_module.so" ] \
    || fail "no modules in $modules, \"make\" builds them"

listening "$port" && {
    fail "port $port is taken, give another one with PORT="
}

# only now: until here it may be the directory of the run that has the port

dir=$top/build/run.$port
rm -rf "$dir"
mkdir -p "$dir" || fail "can't make $dir"

# the registry, the cache and a copy that was pulled, or a shard, at once

if [ -z "$upstream" ]; then
    room=$(df -Pk "$dir" | awk 'NR == 2 { print $4 }')
    [ "$((size * 3 >> 10))" -lt "${room:-0}" ] \
        || fail "a model of $((size >> 20)) MiB needs three times that in" \
                "$top/build, where $((${room:-0} >> 10)) MiB are free"
fi


# the edge

resolver() {
    awk '$1 == "nameserver" && $2 !~ /%/ {
        print "resolver " ($2 ~ /:/ ? "[" $2 "]" : $2) ";"; exit
    }' /etc/resolv.conf 2>/dev/null
}

start_edge() {
    local user='' resolver=''

    [ "$(id -u)" = 0 ] && user='user root;'
    [ -n "$upstream" ] && resolver=$(resolver)

    cat > "$dir/nginx.conf" <<EOC
load_module $modules/ngx_http_oci_module.so;
load_module $modules/ngx_http_oci_cache_module.so;

$user
daemon off;
worker_processes 2;
pid $dir/nginx.pid;
error_log $dir/error.log;

events { worker_connections 4096; }

http {
    log_format oci '\$oci_route \$oci_digest \$oci_cache_status'
                   ' \$oci_verify_status';
    access_log $dir/access.log oci;
    client_body_temp_path $dir/body;
    proxy_temp_path $dir/proxy;
    fastcgi_temp_path $dir/fastcgi;
    uwsgi_temp_path $dir/uwsgi;
    scgi_temp_path $dir/scgi;
    $resolver

    oci_cache_path $dir/cache keys_zone=models:16m;

    oci_registry $1 { url $2; }

    server {
        listen 127.0.0.1:$port;

        location /v2/          { oci_pass $1; oci_cache models; }
        location = /oci_status { oci_status json; }
        location = /metrics    { oci_status prometheus; }
    }
}
EOC
    "$nginx" -p "$dir/" -c "$dir/nginx.conf" -e "$dir/error.log" \
        > "$dir/nginx.log" 2>&1 &
    pids+=($!)
    wait_port "$port" $! \
        || fail "the edge did not start: $(head -n 1 "$dir/nginx.log")"
}


# a registry on loopback

start_registry() {
    registry=$(free_port) || fail "no free port for the registry"
    mkdir "$dir/registry"
    cat > "$dir/registry.yml" <<EOC
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $dir/registry}}
http: {addr: "127.0.0.1:$registry", secret: demo}
EOC
    docker-registry serve "$dir/registry.yml" > "$dir/registry.log" 2>&1 &
    pids+=($!)
    wait_port "$registry" $! \
        || fail "the registry did not start: $(head -n 1 "$dir/registry.log")"
}


# pushes file $1 of media type $2, file name $3 or none; sets its digest and
# its descriptor

push() {
    local location code annotations='' url="http://127.0.0.1:$registry"

    run sha256sum "$1" > "$dir/sum"
    digest=sha256:$(cut -d' ' -f1 "$dir/sum")

    run curl -s -o /dev/null -D "$dir/header" -X POST \
        -H 'Content-Length: 0' "$url/v2/models/demo/blobs/uploads/"
    location=$(tr -d '\r' < "$dir/header" | sed -n 's/^[Ll]ocation: //p')

    run curl -s -o /dev/null -w '%{http_code}' -X PUT \
        -H 'Content-Type: application/octet-stream' -H 'Expect:' \
        -T "$1" "$location&digest=$digest" > "$dir/code"
    code=$(cat "$dir/code")
    [ "$code" = 201 ] || fail "pushing ${3:-the config} failed ($code)"

    [ -n "${3:-}" ] \
        && annotations=",\"annotations\":{\"org.cncf.model.filepath\":\"$3\"}"
    descriptor="{\"mediaType\":\"$2\",\"digest\":\"$digest\",\"size\":$(
        stat -c %s "$1")$annotations}"
}

# $1: number of the shard, $2: bytes.  A safetensors file: a little-endian
# length, a header, one tensor

shard() {
    local header data=$(($2 - 4096))
    header=$(printf '{"model.layers.%d.weight":{"dtype":"U8",' "$1"
        printf '"shape":[%d],"data_offsets":[0,%d]}}' "$data" "$data")

    printf '\xf8\x0f\0\0\0\0\0\0%-4088s' "$header" > "$dir/shard"
    run head -c "$data" >> "$dir/shard" < <(
        openssl enc -aes-128-ctr -pass "pass:$1" -nosalt -md sha256 \
            < /dev/zero 2>/dev/null)

    [ "$(stat -c %s "$dir/shard")" = "$2" ] || fail "writing a shard failed"
}

push_model() {
    local i file layers='' ids=''
    local type=application/vnd.oci.image.manifest.v1+json

    for i in 1 2 3 4; do
        file=model-0000$i-of-00004.safetensors
        shard $i $((size / 4))
        push "$dir/shard" application/vnd.cncf.model.weight.v1.raw $file
        layers=$layers$descriptor,
        ids=$ids\"$digest\",
    done
    rm -f "$dir/shard"

    printf '# Demo\n\nRandom weights, made by make run.\n' > "$dir/README.md"
    push "$dir/README.md" application/vnd.cncf.model.doc.v1.raw README.md
    layers=$layers$descriptor
    ids=$ids\"$digest\"

    printf '%s' '{"descriptor":{"name":"demo","family":"demo",' \
        '"version":"1.0","licenses":["CC0-1.0"]},' \
        '"config":{"architecture":"transformer","format":"safetensors",' \
        "\"precision\":\"uint8\",\"paramSize\":\"$((size / 1000000))M\"}," \
        "\"modelfs\":{\"type\":\"layers\",\"diffIds\":[$ids]}}" \
        > "$dir/config.json"
    push "$dir/config.json" application/vnd.cncf.model.config.v1+json

    printf '%s' "{\"schemaVersion\":2,\"mediaType\":\"$type\"," \
        '"artifactType":"application/vnd.cncf.model.manifest.v1+json",' \
        "\"config\":$descriptor,\"layers\":[$layers]}" > "$dir/manifest.json"

    run curl -s -o /dev/null -w '%{http_code}' -X PUT \
        -H "Content-Type: $type" --data-binary "@$dir/manifest.json" \
        "http://127.0.0.1:$registry/v2/models/demo/manifests/1.0" \
        > "$dir/code"
    [ "$(cat "$dir/code")" = 201 ] \
        || fail "pushing the manifest failed ($(cat "$dir/code"))"
}


upstream_bytes() {
    curl -s -m 10 "http://127.0.0.1:$port/oci_status" \
        | sed -n 's/.*"upstream_bytes":{"demo":\([0-9]*\)}.*/\1/p'
}


# pulls with skopeo into $dir/$1, checks every file, prints a row of the table

pull() {
    local start end before name names count ms good=yes status

    names=$(grep -o '"digest":"sha256:[0-9a-f]*"' "$dir/manifest.json" \
            | cut -d'"' -f4)
    count=$(wc -w <<< "$names")
    before=$(upstream_bytes)
    : > "$dir/access.log"
    start=$(date +%s%N)

    run skopeo copy -q --insecure-policy --src-tls-verify=false \
        "docker://127.0.0.1:$port/models/demo:1.0" "dir:$dir/$1" \
        > "$dir/skopeo.log" 2>&1 || {
            tail -n 20 "$dir/skopeo.log" "$dir/error.log" >&2
            fail "the $1 pull failed"
        }

    end=$(date +%s%N)
    ms=$(((end - start) / 1000000))
    [ $ms -gt 0 ] || ms=1

    # a line is logged after the client has the last byte

    for _ in $(seq 40); do
        [ "$(grep -c '^blob ' "$dir/access.log")" -ge "$count" ] && break
        sleep 0.05
    done

    fetched=$(upstream_bytes)
    [ -n "$before" ] && [ -n "$fetched" ] || fail "no answer of /oci_status"
    fetched=$((fetched - before))

    cmp -s "$dir/manifest.json" "$dir/$1/manifest.json" || good=no

    for name in $names; do
        run sha256sum "$dir/$1/${name#sha256:}" > "$dir/sum" 2>/dev/null
        [ "sha256:$(cut -d' ' -f1 "$dir/sum")" = "$name" ] || good=no
    done

    status=$(awk '$1 == "blob" { n[$3]++ } END { for (s in n)
        printf "%s%s %d", c++ ? ", " : "", s, n[s] }' "$dir/access.log")

    rm -rf "${dir:?}/$1"
    [ $good = yes ] || verified=no

    printf '%-6s %6d.%03d s %8d MB/s %14d %10s   %s\n' "$1" \
        $((ms / 1000)) $((ms % 1000)) $((size / 1000 / ms)) \
        "$fetched" $good "$status"
}


if [ -n "$upstream" ]; then
    start_edge upstream "$upstream"
    echo "An edge in front of $upstream is on 127.0.0.1:$port."
    image=REPOSITORY:TAG

else
    start_registry
    echo "pushing a model of $((size >> 20)) MiB to a registry on" \
         "127.0.0.1:$registry"
    push_model
    start_edge demo "http://127.0.0.1:$registry"
    echo "pulling it through the edge on 127.0.0.1:$port with skopeo"
    echo
    verified=yes
    printf '%-6s %12s %13s %14s %10s   %s\n' pull wall rate 'upstream B' \
        verified 'blobs by cache status'
    pull cold
    cold=$fetched
    pull warm
    image=models/demo:1.0

    [ $verified = yes ] || fail "what was pulled is not what was pushed"

    [ "$cold" -le $((size + size / 100 + 1048576)) ] \
        || fail "the registry sent more than the model"
fi

[ -n "${RUN_ONCE:-}" ] && exit 0

cat <<EOT

The edge stays up; Ctrl-C stops it. Try:

  curl http://127.0.0.1:$port/oci_status
  skopeo copy --src-tls-verify=false docker://127.0.0.1:$port/$image dir:/tmp/model
  oras pull --plain-http 127.0.0.1:$port/$image
  podman pull --tls-verify=false 127.0.0.1:$port/$image     (of images)

containerd, in /etc/containerd/certs.d/REGISTRY/hosts.toml:

  [host."http://127.0.0.1:$port"]
    capabilities = ["pull", "resolve"]

podman, CRI-O and skopeo, in /etc/containers/registries.conf.d/edge.conf:

  [[registry]]
  location = "REGISTRY"
  [[registry.mirror]]
  location = "127.0.0.1:$port"
  insecure = true

Configurations to begin with are in conf.example/. This edge's own is
$dir/nginx.conf, its log is error.log there.
EOT

wait -n "${pids[@]}"
tail -n 5 "$dir"/*.log >&2
fail "the edge or the registry ended"
