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
dir=$top/build/run.$port
pids=()

PATH=$PATH:/usr/sbin:/sbin


fail() {
    echo "make run: $*" >&2
    exit 1
}

finish() {
    trap - EXIT INT TERM
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null
    done
    for pid in "${pids[@]}"; do
        wait "$pid" 2>/dev/null
    done
    rm -rf "$dir"
}

trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM


bytes() {
    local n=${1%[kKmMgGtT]}
    case $n in ''|*[!0-9]*) return 1 ;; esac
    case $1 in
        *[kK]) echo $((n << 10)) ;;
        *[mM]) echo $((n << 20)) ;;
        *[gG]) echo $((n << 30)) ;;
        *[tT]) echo $((n << 40)) ;;
        *)     echo "$n" ;;
    esac
}

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

wait_port() {
    for _ in $(seq 200); do
        listening "$1" && return 0
        kill -0 "$2" 2>/dev/null || return 1
        sleep 0.05
    done
    return 1
}

free_port() {
    local p
    for _ in $(seq 100); do
        p=$((20000 + RANDOM % 8000))
        listening "$p" || { echo "$p"; return; }
    done
}


size=$(bytes "${MODEL_SIZE:-1g}") || fail "MODEL_SIZE=$MODEL_SIZE is no size"
[ "$size" -ge 1048576 ] || fail "MODEL_SIZE is less than 1m"
case $port in ''|*[!0-9]*) fail "PORT=$port is no port" ;; esac
listening "$port" && fail "port $port is taken, try PORT=$((port + 1))"

rm -rf "$dir"
mkdir -p "$dir" || fail "no $dir"


# the edge

start_edge() {
    local resolver='' user=''

    [ "$(id -u)" = 0 ] && user='user root;'

    case $upstream in
        https://*|http://*)
            resolver=$(awk '/^nameserver/ { print $2; exit }' \
                       /etc/resolv.conf 2>/dev/null)
            resolver=${resolver:+resolver $resolver;}
            ;;
    esac

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

    oci_registry demo { url $1; }

    server {
        listen 127.0.0.1:$port;

        location /v2/          { oci_pass demo; oci_cache models; }
        location = /oci_status { oci_status; }
        location = /metrics    { oci_status prometheus; }
    }
}
EOC
    "$nginx" -p "$dir/" -c "$dir/nginx.conf" -e "$dir/error.log" &
    pids+=($!)
    wait_port "$port" $! || {
        cat "$dir/error.log" >&2
        fail "the edge did not start"
    }
}


# a registry on loopback

start_registry() {
    registry=$(free_port)
    mkdir "$dir/registry"
    cat > "$dir/registry.yml" <<EOC
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $dir/registry}}
http: {addr: "127.0.0.1:$registry", secret: demo}
EOC
    docker-registry serve "$dir/registry.yml" > "$dir/registry.log" 2>&1 &
    pids+=($!)
    wait_port "$registry" $! || {
        cat "$dir/registry.log" >&2
        fail "the registry did not start"
    }
}


# pushes file $1; prints its descriptor of media type $2, file name $3

push() {
    local digest location url="http://127.0.0.1:$registry" code length
    digest=sha256:$(sha256sum < "$1" | cut -d' ' -f1)
    length=$(stat -c %s "$1")
    location=$(curl -s -i -X POST -H 'Content-Length: 0' \
        "$url/v2/models/demo/blobs/uploads/" \
        | tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
    code=$(curl -s -o /dev/null -w '%{http_code}' -X PUT \
        -H 'Content-Type: application/octet-stream' -H 'Expect:' \
        -T "$1" "$location&digest=$digest")
    [ "$code" = 201 ] || return 1
    printf '{"mediaType":"%s","digest":"%s","size":%s' "$2" "$digest" "$length"
    [ -n "${3:-}" ] && printf ',"annotations":{"%s":"%s"}' \
        org.cncf.model.filepath "$3"
    printf '}'
}

# $1: number of the shard of $2, $3: bytes.  A safetensors file: a little-
# endian length, a header, one tensor

shard() {
    local header data pad
    data=$(($3 - 4096))
    header=$(printf '{"model.layers.%d.weight":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' \
        "$1" "$data" "$data")
    pad=$((4088 - ${#header}))
    printf '\xf8\x0f\0\0\0\0\0\0%s%*s' "$header" "$pad" ''
    openssl enc -aes-128-ctr -pass "pass:$1" -nosalt -md sha256 \
        -in /dev/zero 2>/dev/null | head -c "$data"
}

push_model() {
    local i layers config one=$((size / 4)) manifest file code

    for i in 1 2 3 4; do
        file=model-0000$i-of-00004.safetensors
        shard "$i" 4 "$one" > "$dir/shard"
        layers="${layers:-}$(push "$dir/shard" \
            application/vnd.cncf.model.weight.v1.raw "$file")," \
            || fail "pushing $file failed"
        rm -f "$dir/shard"
    done

    printf '# Demo\n\nRandom weights, made by make run.\n' > "$dir/README.md"
    layers="$layers$(push "$dir/README.md" \
        application/vnd.cncf.model.doc.v1.raw README.md)"

    cat > "$dir/config.json" <<EOC
{"descriptor":{"name":"demo","family":"demo","version":"1.0"},"modelfs":{"type":"layers","diffIds":[]},"config":{"architecture":"transformer","format":"safetensors","precision":"uint8","paramSize":"$((size >> 20))M"}}
EOC
    config=$(push "$dir/config.json" \
        application/vnd.cncf.model.config.v1+json)

    manifest=$dir/manifest.json
    printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/vnd.cncf.model.manifest.v1+json","config":%s,"layers":[%s]}' \
        "$config" "$layers" > "$manifest"

    code=$(curl -s -o /dev/null -w '%{http_code}' -X PUT \
        -H 'Content-Type: application/vnd.oci.image.manifest.v1+json' \
        --data-binary "@$manifest" \
        "http://127.0.0.1:$registry/v2/models/demo/manifests/1.0")
    [ "$code" = 201 ] || fail "pushing the manifest failed ($code)"
}


upstream_bytes() {
    curl -s "http://127.0.0.1:$port/oci_status" \
        | sed -n 's/.*"upstream_bytes":{"demo":\([0-9]*\)}.*/\1/p'
}


# pulls with skopeo into $dir/$1, checks every file; sets the row's values

pull() {
    local start end before file name good=yes status

    before=$(upstream_bytes)
    : > "$dir/access.log"
    start=$(date +%s%N)

    skopeo copy -q --insecure-policy --src-tls-verify=false \
        "docker://127.0.0.1:$port/models/demo:1.0" "dir:$dir/$1" \
        > "$dir/skopeo.log" 2>&1 || {
            cat "$dir/skopeo.log" "$dir/error.log" >&2
            fail "the $1 pull failed"
        }

    end=$(date +%s%N)
    fetched=$(($(upstream_bytes) - before))
    seconds=$(((end - start) / 1000000))

    cmp -s "$dir/manifest.json" "$dir/$1/manifest.json" || good=no

    for name in $(grep -o '"sha256:[0-9a-f]*"' "$dir/manifest.json" \
                  | tr -d '"'); do
        file=$dir/$1/${name#sha256:}
        [ "sha256:$(sha256sum < "$file" | cut -d' ' -f1)" = "$name" ] \
            || good=no
    done

    status=$(awk '$1 == "blob" { n[$3]++ } END { for (s in n)
        printf "%s%s %d", c++ ? ", " : "", s, n[s] }' "$dir/access.log")

    rm -rf "${dir:?}/$1"
    [ $good = yes ] || verified=no

    printf '%-6s %8d.%03d s %8d MB/s %14d %10s   %s\n' "$1" \
        $((seconds / 1000)) $((seconds % 1000)) \
        $((size / 1000 / (seconds > 0 ? seconds : 1))) \
        "$fetched" $good "$status"
}


if [ -n "$upstream" ]; then
    start_edge "$upstream"
    echo
    echo "An edge in front of $upstream is on 127.0.0.1:$port."
    image=REPOSITORY:TAG

else
    start_registry
    echo "pushing a model of $((size >> 20)) MiB to a registry on 127.0.0.1:$registry"
    push_model
    start_edge "http://127.0.0.1:$registry"
    echo "pulling it through the edge on 127.0.0.1:$port with skopeo"
    echo
    verified=yes
    printf '%-6s %14s %13s %14s %10s   %s\n' pull wall rate 'upstream B' \
        verified 'blobs by cache status'
    pull cold
    cold=$fetched
    pull warm
    image=models/demo:1.0

    if [ "$verified" != yes ]; then
        fail "a digest is wrong"
    fi

    if [ "$cold" -gt $((size + size / 100 + 1048576)) ]; then
        fail "the registry was asked more than once"
    fi
fi

[ -n "${RUN_ONCE:-}" ] && exit 0

cat <<EOT

The edge stays up; Ctrl-C stops it. Try:

  curl http://127.0.0.1:$port/oci_status
  skopeo copy --src-tls-verify=false docker://127.0.0.1:$port/$image dir:/tmp/model
  oras pull --plain-http 127.0.0.1:$port/$image
  podman pull --tls-verify=false 127.0.0.1:$port/$image     (of images)

containerd: conf.example/containerd-hosts.toml; podman and CRI-O:
conf.example/podman-registries.conf. The edge's configuration and log are in
$dir/nginx.conf and error.log.
EOT

while kill -0 "${pids[-1]}" 2>/dev/null; do
    sleep 1 &
    wait $! 2>/dev/null
done

fail "the edge ended, see above"
