#!/bin/bash
# The runtimes that FRAMEWORKS names, from the distribution, with the tools that `build` uses.
set -euo pipefail
# shellcheck source=packer/provision/distribution.sh
. "$(dirname "${BASH_SOURCE[0]}")/distribution.sh"

# Compilers, for packages with native extensions.
install_compiler() {
    if [ "$FAMILY" = apt ]; then
        install_packages g++ gcc libc6-dev make pkg-config
    else
        install_packages gcc gcc-c++ make
    fi
}

install_node() {
    local node
    if [ "$FAMILY" = apt ]; then
        install_packages nodejs npm
    else
        node=$(first_package nodejs24 nodejs22 nodejs20)
        install_packages "$node" "$node-npm"
    fi
}

install_ruby() {
    local ruby
    install_compiler
    if [ "$FAMILY" = apt ]; then
        install_packages libyaml-dev ruby ruby-bundler ruby-dev
    else
        ruby=$(first_package ruby3.4 ruby3.2)
        install_packages libyaml-devel "$ruby" "$ruby-devel" "$ruby-rubygem-bundler"
    fi
}

install_python() {
    install_compiler
    if [ "$FAMILY" = apt ]; then
        # A Procfile that comes from Heroku says python.
        install_packages python-is-python3 python3 python3-dev python3-pip python3-venv
    else
        install_packages python3 python3-devel python3-pip
    fi
}

install_java() {
    if [ "$FAMILY" = apt ]; then
        install_packages default-jre-headless
    else
        install_packages "$(first_package java-25-amazon-corretto-headless \
            java-21-amazon-corretto-headless java-17-amazon-corretto-headless)"
    fi
}

for framework in ${FRAMEWORKS//,/ }; do
    case $framework in
        node) install_node ;;
        ruby) install_ruby ;;
        python) install_python ;;
        java) install_java ;;
        none) ;;
        *)
            echo "unknown framework $framework: use node, ruby, python, java or none" >&2
            exit 1
            ;;
    esac
done
