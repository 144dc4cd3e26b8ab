#!/bin/sh -eu
# Builds the static binary, and packs it.
CGO_ENABLED=0 go build -buildvcs=false -o app/hello .
tar czf source.tar.gz -C app .
