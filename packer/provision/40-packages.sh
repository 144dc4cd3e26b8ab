#!/bin/bash
# The packages in the directory PACKAGES: the agent's, and others that the distribution lacks.
set -euo pipefail
# shellcheck source=packer/provision/distribution.sh
. "$(dirname "${BASH_SOURCE[0]}")/distribution.sh"

# Whether the package in this file is for this machine.
fits() {
    local architecture
    case $FAMILY:$1 in
        apt:*.deb)
            architecture=$(dpkg-deb --field "$1" Architecture)
            [ "$architecture" = all ] || [ "$architecture" = "$(dpkg --print-architecture)" ]
            ;;
        dnf:*.rpm)
            architecture=$(rpm --query --package --queryformat '%{ARCH}' "$1")
            [ "$architecture" = noarch ] || [ "$architecture" = "$(uname --machine)" ]
            ;;
        *) false ;;
    esac
}

if [ -z "$PACKAGES" ]; then
    echo 'PACKAGES is empty: the agent is not installed'
    exit
fi
files=()
for file in "$(realpath "$PACKAGES")"/*; do
    if fits "$file"; then
        files+=("$file")
    fi
done
if [ "${#files[@]}" -eq 0 ]; then
    echo "no package for $ID $(uname --machine) in $PACKAGES" >&2
    exit 1
fi
install_packages "${files[@]}"
if ! command -v deploy >/dev/null; then
    echo "none of the packages in $PACKAGES is the agent's" >&2
    exit 1
fi
