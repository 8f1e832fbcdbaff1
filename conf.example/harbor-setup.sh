#!/bin/sh
#
# Tells Harbor of an edge like that of harbor-fronting.conf, by its API: once
# for each edge, with a name of its own.
#
#   export HARBOR=https://harbor.example.com EDGE=https://edge-1.example.com
#
#   sh harbor-setup.sh robot edge-1 llm         a robot that may pull from the
#                                               projects named, and nothing
#                                               else; secrets; on the edge
#   sh harbor-setup.sh preheat edge-1 llm       the edge is a preheat provider,
#                                               and the projects' pushes are
#                                               preheated there
#   sh harbor-setup.sh webhook edge-1 llm       the projects' events go there
#
# nginx reads the files of the first before the others are of use.  Where
# another Harbor is to have copies, by way of this edge, HARBOR is that one:
#
#   sh harbor-setup.sh replication edge-1 llm/model llm/other
#
# The account of Harbor's that does it is in ~/.netrc, or in the file NETRC:
# "machine harbor.example.com login admin password ...".  Files are in
# /etc/nginx, or in DIR.

set -eu
umask 077

NETRC=${NETRC:-$HOME/.netrc}
DIR=${DIR:-/etc/nginx}


# method, path; a body comes from standard input: it is not for ps(1)

api() {
    curl -sS --fail-with-body --netrc-file "$NETRC" -X "$1" -d @- \
         -H 'Content-Type: application/json' "$HARBOR/api/v2.0/$2"
}

ask() {
    curl -sS --fail-with-body --netrc-file "$NETRC" "$HARBOR/api/v2.0/$1"
}

# of a JSON on standard input, where nothing else has that name

field() {
    sed -n 's/.*"'"$1"'": *"\{0,1\}\([^",}]*\).*/\1/p' | grep .
}


robot() {
    edge=$1
    shift
    projects=

    for project; do
        projects="$projects${projects:+,}"'{"kind":"project","namespace":"'
        projects="$projects$project"'","access":[{"resource":"repository",'
        projects="$projects"'"action":"pull"}]}'
    done

    # a robot of the system has no push but by name, and no right to the API

    if ! made=$(api POST robots <<END
{"name": "$edge", "description": "fills the cache of $edge",
 "level": "system", "duration": -1, "permissions": [$projects]}
END
    )
    then
        printf '%s\n' "$made" >&2
        return 1
    fi

    name=$(printf '%s\n' "$made" | field name)
    secret=$(printf '%s\n' "$made" | field secret)
    echo "$name:$secret" > "$DIR/harbor-robot"

    for hook in preheat webhook; do
        echo "Bearer $(openssl rand -hex 32)" > "$DIR/$hook.secret"
    done
}


preheat() {
    edge=$1
    shift
    token=$(sed 's/^Bearer //' "$DIR/preheat.secret")
    instance=$(cat <<END
{"name": "$edge", "description": "nginx-oci", "vendor": "dragonfly",
 "endpoint": "$EDGE/preheat", "auth_mode": "OAUTH",
 "auth_info": {"token": "$token"}, "enabled": true, "insecure": false}
END
    )

    # Harbor asks for its health, with the token

    printf '%s\n' "$instance" | api POST p2p/preheat/instances/ping
    printf '%s\n' "$instance" | api POST p2p/preheat/instances
    id=$(ask "p2p/preheat/instances/$edge" | field id)

    # these are JSON in strings

    filters='[{\"type\":\"repository\",\"value\":\"**\"},'
    filters="$filters"'{\"type\":\"tag\",\"value\":\"**\"}]'
    trigger='{\"type\":\"event_based\",\"trigger_setting\":{\"cron\":\"\"}}'

    for project; do
        api POST "projects/$project/preheat/policies" <<END
{"name": "$edge", "description": "what is pushed is warm at $edge",
 "provider_id": $id, "enabled": true,
 "filters": "$filters", "trigger": "$trigger"}
END
    done
}


webhook() {
    edge=$1
    shift

    # a target of its own for each edge: Harbor gives up after three failures

    for project; do
        api POST "projects/$project/webhook/policies" <<END
{"name": "$edge", "description": "what changes is asked for again at $edge",
 "enabled": true,
 "event_types": ["PUSH_ARTIFACT", "DELETE_ARTIFACT", "SCANNING_COMPLETED",
                 "REPLICATION", "TAG_RETENTION"],
 "targets": [{"type": "http", "address": "$EDGE/webhook",
              "auth_header": "$(cat "$DIR/webhook.secret")",
              "skip_cert_verify": false, "payload_format": "CloudEvents"}]}
END
    done
}


replication() {
    edge=$1
    shift
    robot=$(cat "$DIR/harbor-robot")
    project=${1%%/*}

    # whole names: for patterns Harbor would need the right to list all

    names=$(IFS=,; echo "$*")
    test $# -eq 1 || names="{$names}"

    api POST registries <<END
{"name": "$edge", "description": "Harbor, by way of $edge",
 "type": "docker-registry", "url": "$EDGE", "insecure": false,
 "credential": {"type": "basic", "access_key": "${robot%%:*}",
                "access_secret": "${robot#*:}"}}
END
    id=$(ask "registries?q=name%3D$edge" | field id)

    # by chunks: each is an answer of its own, so no limit of the total time

    api POST replication/policies <<END
{"name": "$edge-$project", "description": "copies $project from $edge",
 "src_registry": {"id": $id}, "dest_namespace": "$project",
 "dest_namespace_replace_count": 1,
 "filters": [{"type": "name", "value": "$names"},
             {"type": "tag", "value": "**", "decoration": "matches"}],
 "trigger": {"type": "scheduled",
             "trigger_settings": {"cron": "0 0 2 * * *"}},
 "override": true, "enabled": true, "deletion": false,
 "speed": -1, "copy_by_chunk": true}
END
}


case ${1:-} in
robot|preheat|webhook|replication) ;;
*) set -- ;;
esac

if [ $# -lt 3 ]; then
    sed -n '3,/^$/s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi

"$@"
