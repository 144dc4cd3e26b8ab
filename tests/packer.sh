#!/bin/bash
# Checks packer/: the scripts by shellcheck, the templates by Packer, and that each of them
# requires tokens for the metadata. `tests/packer.sh --provision` also runs the provisioning
# twice on a fresh Debian 12 (needs root and a network; 10 minutes at most), and fails if the
# second run changes a file. tests/image runs the same by Packer itself, on booted instances, and
# uses two parts of this script: `--copy DIR` copies packer/ as the Packer of this machine can
# read it, and `--snapshot FILE` describes all files of the machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    echo "tests/packer.sh: $*" >&2
    exit 1
}

require() {
    local missing=() package status
    for package in "$@"; do
        status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) || true
        [ "$status" = installed ] || missing+=("$package")
    done
    if [ "${#missing[@]}" -gt 0 ]; then
        [ "$(id -u)" -eq 0 ] || fail "missing; as root: apt-get install ${missing[*]}"
        apt-get update --quiet
        DEBIAN_FRONTEND=noninteractive \
            apt-get install --quiet --yes --no-install-recommends "${missing[@]}"
    fi
}

work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT

# Copies a template without what Packer 1.6, that of Debian 12, does not know: the block
# required_plugins, and the settings of IMDSv2.
reduce() {
    awk '
        /^ *(required_plugins|metadata_options) \{$/ { depth = 1; next }
        depth { depth += gsub(/\{/, "{") - gsub(/\}/, "}"); next }
        /^ *imds_support / { next }
        { print }
    ' "$1" >"$2"
}

check_scripts() {
    find packer tests/packer.sh -name '*.sh' -exec shellcheck --external-sources {} +
    echo 'scripts: shellcheck is content'
}

# Whether $1 is at least version $2.
at_least() {
    printf '%s\n%s\n' "$2" "$1" | sort --version-sort --check=quiet
}

# Copies packer/ as the Packer of this machine can read it: all of it, or reduced.
copy_templates() {
    local version template
    cp --recursive packer "$1"
    version=$(packer version | sed --quiet '1s/^Packer v\([0-9.]*\).*/\1/p')
    if at_least "$version" 1.7.0; then
        packer init "$1"
    else
        echo "templates: a copy for Packer $version, without required_plugins and IMDSv2"
        for template in packer/*.hcl packer/instance/*.hcl; do
            reduce "$template" "$1/${template#packer/}"
        done
    fi
}

check_templates() {
    local template templates instance source packages=$work/packages
    # Every source of instances is this one.
    source=$(awk '/^source "amazon-ebs"/ { inside = 1 } inside { print } /^\}/ { inside = 0 }' packer/*.hcl)
    for line in 'imds_support = "v2.0"' 'http_tokens                 = "required"'; do
        grep --quiet --fixed-strings "$line" <<<"$source" || fail "a template lacks: $line"
    done
    [ "$(grep --count '^source ' <<<"$source")" -eq 1 ] || fail 'more than one source of instances'

    mkdir "$packages"
    : >"$packages/deploy-agent.deb"
    ssh-keygen -q -t ed25519 -N '' -f "$work/key"
    copy_templates "$work/copy"
    templates=$work/copy instance=$work/copy/instance
    packer validate -var "packages=$packages" "$templates"
    packer validate -var "packages=$packages" -var host=192.0.2.1 \
        -var "key=$work/key" "$instance"
    packer inspect "$templates" >"$work/inspected"
    for template in debian-12 ubuntu-24.04 amazon-linux-2023; do
        grep --quiet "$template" "$work/inspected" || fail "packer inspect does not show $template"
    done
    echo 'templates: Packer is content'
}

check_user_data() {
    [ "$(head -n 1 packer/user-data/cloud-init.yaml)" = '#cloud-config' ] ||
        fail 'cloud-init.yaml does not begin with #cloud-config'
    python3 - packer/user-data/cloud-init.yaml packer/ssm-deploy.yaml packaging/collectd/datadog.yaml <<'END'
import sys, yaml
for path in sys.argv[1:]:
    with open(path) as file:
        yaml.safe_load(file)
END
    echo 'user-data, examples: valid YAML'
}

# Runs a script in the tree, as root, with the network of this machine and without systemd.
in_tree() {
    systemd-nspawn --quiet --register=no --keep-unit --settings=no --timezone=off \
        --link-journal=no --as-pid2 --pipe --resolv-conf=bind-host \
        --bind-ro="$PWD/packer/provision:/run/provision" --bind-ro="$work/debs:/run/debs" \
        --directory="$work/root" -- "$@" </dev/null
}

# Describes all files below $1: types, modes, owners, links and contents. dpkg and apt write
# their own caches and logs at every run.
snapshot() {
    (
        cd "$1"
        find . -xdev \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./run -o -path ./tmp \
            -o -path ./var/cache \) -prune -o -printf '%y %m %U:%G %p %l\n' | sort
        find . -xdev \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./run -o -path ./tmp \
            -o -path ./var/cache \) -prune -o -type f -exec sha256sum {} + | sort --key=2
    )
}

check_provisioning() {
    local deb=${DEPLOY_DEB:-target/debian/deploy-agent.deb}
    [ -f "$deb" ] || fail "no package $deb; set DEPLOY_DEB, or make deb"
    mkdir "$work/debs"
    cp "$deb" "$work/debs"
    mmdebstrap --quiet --variant=minbase \
        --include=ca-certificates,cloud-init,dbus,openssh-server,sudo,systemd-sysv,udev \
        bookworm "$work/root" </dev/null
    for run in 1 2; do
        in_tree env "FRAMEWORKS=${FRAMEWORKS:-node,ruby,python,java}" PACKAGES=/run/debs \
            /run/provision/run.sh >"$work/log$run" 2>&1 ||
            { cat "$work/log$run"; fail "run $run failed"; }
        snapshot "$work/root" >"$work/tree$run"
        grep '^wrote \|left out' "$work/log$run" || true
    done
    diff "$work/tree1" "$work/tree2" || fail 'the second run changed files'
    [ ! -s "$work/root/etc/machine-id" ] || fail 'the image has a machine id'
    [ -z "$(find "$work/root/etc/ssh" -name 'ssh_host_*')" ] || fail 'the image has host keys'
    [ -z "$(find "$work/root/var/log" -type f)" ] || fail 'the image has logs'
    # shellcheck disable=SC2016 # the shell in the tree expands it
    in_tree sh -euxc 'deploy --version; node --version; npm --version; ruby --version
        bundle --version; python3 -m venv /tmp/venv; java -version; collectd -t; nft --version
        for tool in atop bpftrace htop iotop jq nethogs perf sar strace tcpdump; do
            command -v "$tool"
        done'
    echo 'provisioning: the second run changes nothing'
}

case ${1:-} in
    --copy)
        require openssh-client packer
        copy_templates "$2"
        exit
        ;;
    --snapshot)
        snapshot / >"$2"
        exit
        ;;
esac
require openssh-client packer python3-yaml shellcheck
check_scripts
check_templates
check_user_data
if [ "${1:-}" = --provision ]; then
    [ "$(id -u)" -eq 0 ] || fail '--provision needs root'
    require mmdebstrap systemd-container
    check_provisioning
fi
