#!/bin/sh
# What `deploy` says on an instance that takes no time. $STATE has the name of what runs, and
# `bad` the name of a release that does not become healthy here.
runs=$(cat "$STATE/runs" 2>/dev/null)
ended() {
    [ "$1" = 0 ] && echo "$2" >"$STATE/runs"
    exit=$([ "$1" = 0 ] && echo done || echo unhealthy)
    echo '{"event":"begun","id":"a","what":"deploy","who":"root"}'
    echo '{"event":"ended","outcome":{"exit":"'"$exit"'","code":'"$1"',"message":"'"$2 $exit"'","log":['"$3"'],"seconds":0.1}}'
    exit "$1"
}
# An old one, which has no --by.
[ "${2:-}" = --help ] && exit
case $1 in
status)
    [ -n "$runs" ] || { echo '[]'; exit; }
    echo '[{"app":"shop","environment":"production","release":"'"$runs"'","url":"s3://x/shop/production/'"$runs"'","state":null,"healthy":true,"port":80,"processes":[],"leaving":null,"rollback":null,"working":null,"working_id":null,"last":null}]'
    ;;
release)
    for url do :; done
    name=${url##*/}
    if [ "$(cat "$STATE/bad" 2>/dev/null)" = "$name" ]; then
        # Longer than a list of invocations keeps.
        ended 12 "$name" "\"$(printf '%4000s' boom | tr ' ' .)\",\"the disk is on fire\""
    fi
    ended 0 "$name"
    ;;
rollback) ended 0 "$4" ;;
esac
