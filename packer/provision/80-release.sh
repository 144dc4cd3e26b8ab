#!/bin/bash
# Stages the release that RELEASE names, so that an instance need not download it.
set -euo pipefail

if [ -n "$RELEASE" ]; then
    deploy stage "$RELEASE"
fi
