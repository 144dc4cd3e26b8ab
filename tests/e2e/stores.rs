//! Web servers for static files: each derives its ETag differently, and none from the content.

use testkit::host::{Host, SOON};
use testkit::instance::Image;
use testkit::stores::{SITE, deploys_what_was_asked_for};

const INSTALL: &str = "
    apt-get update -q
    apt-get install -q --yes --no-install-recommends nginx-light lighttpd apache2 caddy
    systemctl disable nginx lighttpd apache2 caddy
    rm -rf /var/cache/apt /var/lib/apt/lists
    mkdir -p /var/cache/apt/archives/partial
";

/// Runs each server on its own port, with its default configuration except for the directory.
const START: &str = r##"
    set -e
    cat >/etc/nginx/sites-enabled/default <<'END'
server { listen 8081; root /srv/site; gzip on; gzip_types *; gzip_min_length 1; }
END
    systemctl start nginx
    sed -i 's/^server.port.*/server.port = 8082/; s#^server.document-root.*#server.document-root = "/srv/site"#' \
        /etc/lighttpd/lighttpd.conf
    systemctl start lighttpd
    echo 'Listen 8083' >/etc/apache2/ports.conf
    cat >/etc/apache2/sites-enabled/000-default.conf <<'END'
<VirtualHost *:8083>
DocumentRoot /srv/site
<Directory /srv/site>
Require all granted
</Directory>
</VirtualHost>
END
    systemctl start apache2
    systemd-run --quiet --unit=caddy-site caddy file-server --root /srv/site --listen :8084
    systemd-run --quiet --unit=python-site --working-directory=/srv/site \
        python3 -m http.server 8085
"##;

const SERVERS: [(&str, u16); 5] =
    [("nginx", 8081), ("lighttpd", 8082), ("apache", 8083), ("caddy", 8084), ("python", 8085)];

#[test]
fn every_web_server_delivers_the_requested_release() {
    let host = Host::of(&Host::image_on(Image::base().layer("web", &[], INSTALL), "web-agent"));
    host.configure("DEPLOY_SETTLE=0s\nDEPLOY_DRAIN_TIMEOUT=0s\n");
    host.sh(SITE);
    host.sh(START);
    for (server, port) in SERVERS {
        host.wait_for(server, SOON, || {
            host.sh(&format!("ss -Hltn 'sport = {port}'")).contains("LISTEN").then_some(())
        });
        deploys_what_was_asked_for(&host, server, &format!("http://127.0.0.1:{port}"));
    }
    // The bytes are the same from every server.
    let installed = host.json(&["releases", "app", "--json"]);
    assert_eq!(installed.as_array().map(Vec::len), Some(2), "{installed}");
}
