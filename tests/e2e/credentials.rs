//! The agent's credentials for S3 and its route there, as operators configure them.

use testkit::app::{Release, url};
use testkit::host::{ACCESS_KEY, Host, SECRET_KEY, SOON};

/// A TLS proxy for the server named in its arguments.
const TLS: &str = r#"
import socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/srv/tls/cert.pem", "/srv/tls/key.pem")

def copy(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
    except OSError:
        pass
    finally:
        b.close()

with context.wrap_socket(socket.create_server(("127.0.0.1", 8443)), server_side=True) as server:
    while True:
        try:
            client, _ = server.accept()
        except (OSError, ssl.SSLError):
            continue
        there = socket.create_connection((sys.argv[1], int(sys.argv[2])))
        threading.Thread(target=copy, args=(client, there), daemon=True).start()
        threading.Thread(target=copy, args=(there, client), daemon=True).start()
"#;

/// A certificate authority, and a certificate for `localhost` that it signed.
const CERTIFICATE: &str = "mkdir -p /srv/tls && cd /srv/tls && exec 2>/dev/null
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem
    openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out request.pem
    echo subjectAltName=DNS:localhost >names
    openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \\
        -extfile names -out cert.pem";

/// A host with r1 in S3, whose agent.env has no keys.
fn without_keys() -> Host {
    let host = Host::boot();
    host.publish(&Release::new("r1"));
    host.sh("sed -i '/^AWS_ACCESS_KEY_ID/d; /^AWS_SECRET_ACCESS_KEY/d' /etc/deploy/agent.env");
    host.write("/root/.aws/config", "[default]\nregion = eu-central-1\n");
    host
}

/// Applies changes of AWS variables, as the manual describes.
fn reload(host: &Host) {
    host.sh("systemctl reload deployd");
    host.wait_for("deployd", SOON, || host.exec(&["deploy", "status"]).status.filter(|s| *s == 0));
}

fn keys(profile: &str) -> String {
    format!("[{profile}]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
}

#[test]
fn profiles_of_root_are_found_where_the_aws_cli_finds_them() {
    let host = without_keys();
    host.write("/root/.aws/credentials", keys("default"));
    host.configure("AWS_EC2_METADATA_DISABLED=true\n");
    reload(&host);
    host.deploys("r1");

    host.publish(&Release::new("r2"));
    host.write("/root/.aws/credentials", keys("ops"));
    host.configure("AWS_PROFILE=ops\n");
    reload(&host);
    host.deploys("r2");

    host.configure("AWS_PROFILE=nobody\n");
    reload(&host);
    let said = host.deploy(&[&url("r1")]).exits(11);
    assert!(said.stdout.contains("nobody"), "{said:?}");

    let program = "[profile program]\ncredential_process = /usr/local/bin/keys\n";
    host.write("/root/.aws/config", program);
    host.configure("AWS_PROFILE=program\n");
    reload(&host);
    let said = host.deploy(&[&url("r1")]).exits(11);
    assert!(said.stdout.contains("credential_process"), "{said:?}");
    assert_eq!(host.served().as_deref(), Some("r2"));
}

#[test]
fn a_private_certificate_authority_is_trusted_if_the_bundle_contains_it() {
    let host = Host::boot();
    host.publish(&Release::new("r1"));
    host.sh(CERTIFICATE);
    host.write("/srv/tls/server.py", TLS);
    host.sh("systemd-run --quiet --unit=tls python3 /srv/tls/server.py 10.77.0.1 9000");
    host.wait_for("TLS", SOON, || {
        host.sh("ss -Hltn 'sport = 8443'").contains("LISTEN").then_some(())
    });
    host.configure("AWS_ENDPOINT_URL=https://localhost:8443\n");
    reload(&host);
    let said = host.deploy(&[&url("r1")]).exits(11);
    assert!(said.stdout.contains("certificate"), "{said:?}");

    host.configure("AWS_CA_BUNDLE=/srv/tls/ca.pem\n");
    reload(&host);
    host.deploys("r1");

    host.configure("AWS_CA_BUNDLE=/srv/tls/nothing.pem\n");
    reload(&host);
    let said = host.deploy(&[&url("r1")]);
    assert_ne!(said.status, Some(0), "{said:?}");
    assert!(said.stdout.contains("/srv/tls/nothing.pem"), "{said:?}");
}

#[test]
fn an_unreachable_proxy_is_named_in_the_error() {
    let host = Host::boot();
    host.publish(&Release::new("r1"));
    host.configure("HTTP_PROXY=http://127.0.0.1:3128\n");
    reload(&host);
    let said = host.deploy(&["--timeout", "20s", &url("r1")]).exits(11);
    assert!(said.stdout.contains("127.0.0.1:3128"), "{said:?}");
}
