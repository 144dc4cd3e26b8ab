#!/bin/bash
# rsyslog and its module for TLS, which DEPLOY_SYSLOG needs; see docs/logs.md.
set -euo pipefail
# shellcheck source=packer/provision/distribution.sh
. "$(dirname "${BASH_SOURCE[0]}")/distribution.sh"

install_packages rsyslog rsyslog-gnutls
