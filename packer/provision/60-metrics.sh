#!/bin/bash
# collectd: metrics of the instance, and those that apps send by statsd, on 127.0.0.1:9103 for
# Prometheus. The package of deploy-agent has examples that send them elsewhere as well.
set -euo pipefail
# shellcheck source=packer/provision/distribution.sh
. "$(dirname "${BASH_SOURCE[0]}")/distribution.sh"

if [ "$FAMILY" = apt ]; then
    if ! has_package collectd-core; then
        echo "$ID $VERSION_ID has no package collectd-core: left out"
        exit
    fi
    # The plugins are in collectd-core; the libraries of those below are recommended only.
    # Those of the last line are for sending by HTTP and by collectd's own protocol.
    install_packages collectd-core libprotobuf-c1 \
        "$(first_package libmicrohttpd12t64 libmicrohttpd12)" \
        "$(first_package libcurl3t64-gnutls libcurl3-gnutls)" libyajl2 libgcrypt20
    main=/etc/collectd/collectd.conf
else
    install_packages collectd collectd-disk collectd-write_prometheus
    install_available collectd-write_http
    main=/etc/collectd.conf
fi

changed=$(write_file "$main" <<'END'
# Written when the image was made. The host name of each series is the instance's.
FQDNLookup false
Interval 10

LoadPlugin syslog
LoadPlugin cpu
LoadPlugin df
LoadPlugin disk
LoadPlugin interface
LoadPlugin load
LoadPlugin memory
LoadPlugin statsd
LoadPlugin tcpconns
LoadPlugin write_prometheus

<Plugin cpu>
    ReportByCpu false
    ValuesPercentage true
</Plugin>
<Plugin df>
    FSType "/^(ext[234]|xfs|btrfs)$/"
    ReportInodes true
    ValuesPercentage true
</Plugin>
<Plugin interface>
    Interface "lo"
    IgnoreSelected true
</Plugin>
<Plugin statsd>
    Host "127.0.0.1"
    Port "8125"
    DeleteTimers true
    DeleteGauges true
    DeleteSets true
    TimerPercentile 50.0
    TimerPercentile 99.0
</Plugin>
<Plugin tcpconns>
    ListeningPorts true
</Plugin>
<Plugin write_prometheus>
    Host "127.0.0.1"
    Port "9103"
</Plugin>

<Include "/etc/collectd/collectd.conf.d">
    Filter "*.conf"
</Include>
END
)
mkdir --parents /etc/collectd/collectd.conf.d
enable_unit collectd.service
if [ -n "$changed" ]; then
    echo "$changed"
    if running; then
        systemctl restart collectd.service
    fi
fi
