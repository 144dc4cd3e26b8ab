#!/bin/sh -eu
# Makes the releases that are staged, below /srv/bench as they lie in S3. The
# versions are fixed, and so is everything else that a later run could find
# otherwise: order, owner and time in the archives.

export PIP_CERT=/etc/ssl/certs/bench.crt CURL_CA_BUNDLE=/etc/ssl/certs/bench.crt
export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
lists=$PWD
mkdir -p /srv/bench /srv/made
cd /srv/made

# $1: a list of npm packages; $2: the directory they come to.
npm_packages() {
    xargs -P 4 -L 1 sh -euc '
        into=$0/$1
        mkdir -p "$into"
        url=https://registry.npmjs.org/$1/-/${1##*/}-$2.tgz
        curl --fail --silent --show-error --location --retry 5 --output "$into.tgz" "$url"
        tar xzf "$into.tgz" --no-same-owner --strip-components=1 -C "$into"
        rm "$into.tgz"' "$2" <"$1"
}

# $1: the app, made in the directory of that name; $2: its web process.
pack() {
    echo "web: $2" >"$1/Procfile"
    chmod -R u+rwX,go+rX,go-w "$1"
    tar --sort=name --owner=0 --group=0 --mtime=@1700000000 -C "$1" -cf source.tar .
    for kind in gz zst; do
        mkdir -p "/srv/bench/$1/production/$kind"
        : >"/srv/bench/$1/production/$kind/env"
    done
    gzip -n <source.tar >"/srv/bench/$1/production/gz/source.tar.gz"
    zstd --quiet -T0 <source.tar >"/srv/bench/$1/production/zst/source.tar.zst"
    echo "$(find "$1" -type f | wc -l) $(stat --format=%s source.tar)" >"/srv/bench/$1/size"
    mv source.tar "/srv/bench/$1/source.tar"
    rm -rf "$1"
}

mkdir -p node/node_modules
npm_packages "$lists/node.txt" node/node_modules
pack node 'node server.js'

mkdir python
python3 -m pip install --quiet --no-deps --no-compile --only-binary=:all: \
    --target python/lib --requirement "$lists/python.txt"
pack python 'python3 lib/manage.py'

mkdir -p binary/assets
npm_packages "$lists/binary.txt" binary/assets
mkdir binary/bin
mv binary/assets/@oven/bun-linux-x64/bin/bun binary/bin/server
pack binary bin/server
