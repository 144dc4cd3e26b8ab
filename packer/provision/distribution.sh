# shellcheck shell=bash
# What differs between the distributions, for the steps, which read this file first.
set -euo pipefail

# shellcheck source=/dev/null
. /etc/os-release
case $ID in
    debian | ubuntu) FAMILY=apt ;;
    amzn) FAMILY=dnf ;;
    *)
        echo "distribution $ID is not supported: use Debian, Ubuntu or Amazon Linux" >&2
        exit 1
        ;;
esac
readonly FAMILY

# Whether systemd runs here: not in a chroot or a container that is only being made.
running() {
    [ -d /run/systemd/system ]
}

# Brings the lists of packages up to date.
refresh_packages() {
    if [ "$FAMILY" = apt ]; then
        apt-get -o DPkg::Lock::Timeout=300 update --quiet
    fi
}

# Installs packages, names or paths of files, which are an error if they do not exist.
install_packages() {
    if [ "$FAMILY" = apt ]; then
        apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold \
            install --quiet --yes --no-install-recommends "$@"
    else
        dnf install --quiet --assumeyes "$@"
    fi
}

# Whether the distribution has this package.
has_package() {
    if [ "$FAMILY" = apt ]; then
        apt-cache show --no-all-versions "$1" >/dev/null 2>&1
    else
        [ -n "$(dnf --quiet repoquery --latest-limit 1 "$1" 2>/dev/null)" ]
    fi
}

# Prints the first of these packages that the distribution has.
first_package() {
    local name
    for name in "$@"; do
        if has_package "$name"; then
            echo "$name"
            return
        fi
    done
    echo "none of these packages exists here: $*" >&2
    return 1
}

# Installs those of the packages that the distribution has, and names the others.
install_available() {
    local name found=()
    for name in "$@"; do
        if has_package "$name"; then
            found+=("$name")
        else
            echo "$ID $VERSION_ID has no package $name: left out"
        fi
    done
    if [ "${#found[@]}" -gt 0 ]; then
        install_packages "${found[@]}"
    fi
}

# Writes stdin to a file (0644) unless it has this content already.
write_file() {
    local path=$1 new
    new=$(mktemp)
    cat >"$new"
    if ! cmp --quiet "$new" "$path"; then
        install -D --mode=644 "$new" "$path"
        echo "wrote $path"
    fi
    rm -f "$new"
}

# Enables a unit if it exists, and starts it where systemd runs.
enable_unit() {
    if [ -z "$(systemctl list-unit-files --no-legend "$1" 2>/dev/null)" ]; then
        echo "no unit $1: not enabled"
        return
    fi
    if [ "$(systemctl is-enabled "$1" 2>/dev/null)" = masked ]; then
        echo "the unit $1 is masked: not enabled"
        return
    fi
    systemctl --quiet enable "$1"
    if running; then
        systemctl start "$1" || echo "$1 does not run on this machine"
    fi
}
