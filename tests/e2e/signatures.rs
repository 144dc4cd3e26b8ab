//! An instance that requires signatures: nothing of a release runs that is not signed, as this
//! release, by a key that the instance trusts now.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use tempfile::TempDir;
use testkit::app::{BUCKET, Release, url};
use testkit::host::Host;

const NAMESPACE: &str = "deploy-release";
/// A build that leaves a trace.
const BUILDS: &str = "web: python3 app.py web\nworker: python3 app.py worker\n\
                      build: touch \"$DEPLOY_SHARED/built-$DEPLOY_RELEASE\"\n";

/// Keys outside the instance, and the releases that are signed with them.
struct Signers {
    keys: TempDir,
    host: Host,
}

impl Signers {
    fn new(host: Host) -> Signers {
        let signers = Signers { keys: TempDir::new().expect("a directory"), host };
        for (name, kind) in
            [("ada", "ed25519"), ("eve", "ed25519"), ("old", "ecdsa"), ("rsa", "rsa")]
        {
            signers.keygen(&["-q", "-t", kind, "-N", "", "-C", name, "-f", name], b"");
        }
        signers
    }

    /// Runs ssh-keygen with an input, in the directory of the keys.
    fn keygen(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut command = Command::new("ssh-keygen");
        command.current_dir(self.keys.path()).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("ssh-keygen");
        child.stdin.take().expect("a pipe").write_all(input).expect("a write");
        let output = child.wait_with_output().expect("its end");
        assert!(output.status.success(), "{arguments:?}");
        output.stdout
    }

    fn public(&self, key: &str) -> String {
        fs::read_to_string(self.keys.path().join(format!("{key}.pub"))).expect("a key")
    }

    /// Makes one key the only one that the instance trusts.
    fn trust(&self, options: &str, key: &str) {
        let line = format!("{key}@example.com {options} {}", self.public(key));
        self.host.write("/etc/deploy/allowed_signers", line);
    }

    fn put(&self, release: &str, file: &str, bytes: impl Into<Vec<u8>>) {
        let key = format!("my-app/production/{release}/{file}");
        self.host.s3().put(BUCKET, &key, bytes.into());
    }

    /// Uploads a release with a build, and the sums of its files under a title.
    fn publish(&self, name: &str, title: &str) -> String {
        let release = Release::new(name).procfile(BUILDS);
        self.host.publish(&release);
        let sum = |bytes: &[u8]| {
            let mut command = Command::new("sha256sum");
            let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().expect("sha256sum");
            child.stdin.take().expect("a pipe").write_all(bytes).expect("a write");
            let output = child.wait_with_output().expect("its end").stdout;
            String::from_utf8(output).expect("a sum")[..64].to_owned()
        };
        let (archive, env) = (sum(&release.compressed()), sum(release.env_bytes()));
        let sums = format!("# {title}\n{archive}  source.tar.gz\n{env}  env\n");
        self.put(name, "SHA256SUMS", sums.as_str());
        sums
    }

    fn sign(&self, name: &str, key: &str, namespace: &str, sums: &str) {
        let words = ["-q", "-Y", "sign", "-n", namespace, "-f", key];
        self.put(name, "SHA256SUMS.sig", self.keygen(&words, sums.as_bytes()));
    }

    /// Uploads a release that ada has signed.
    fn publish_signed(&self, name: &str) -> String {
        let sums = self.publish(name, &format!("my-app/production/{name}"));
        self.sign(name, "ada", NAMESPACE, &sums);
        sums
    }

    /// Deploys a release that is refused for a reason, and checks that nothing of it ran.
    #[track_caller]
    fn refused(&self, name: &str, reason: &str, words: &str) {
        let before = self.host.state();
        let said = self.host.deploy(&[&url(name)]).exits(10);
        assert!(said.stdout.contains(words), "{name}: {said:?}");
        assert!(said.stderr.contains("help: "), "{name}: {said:?}");
        assert_eq!(self.host.state(), before, "{name}");
        let history = self.host.json(&["history", "my-app", "--json"]);
        assert_eq!(history[0]["reason"], reason, "{history:#}");
        let built = self.host.sh("ls /var/lib/deploy/apps/my-app/shared");
        assert_eq!(built, "built-r1\n", "{name}");
        assert_eq!(self.host.served().as_deref(), Some("r1"), "{name}");
    }
}

#[test]
fn a_release_is_refused_before_anything_of_it_runs_unless_a_trusted_key_has_signed_it() {
    let signers = Signers::new(Host::boot());
    let host = &signers.host;
    signers.trust("namespaces=\"deploy-release\"", "ada");
    signers.publish_signed("r1");
    let said = host.deploys("r1");
    assert!(said.stderr.contains("signed by ada@example.com with the key SHA256:"), "{said:?}");
    let releases = host.json(&["releases", "my-app", "--json"]);
    assert_eq!(releases[0]["signed_by"]["principal"], "ada@example.com", "{releases:#}");
    host.deploys("r1");

    let (missing, untrusted, mismatch) =
        ("signature_missing", "signer_not_trusted", "signature_mismatch");
    host.publish(&Release::new("bare").procfile(BUILDS));
    signers.refused("bare", missing, "there is no SHA256SUMS,");
    signers.publish("unsigned", "my-app/production/unsigned");
    signers.refused("unsigned", missing, "there is no SHA256SUMS.sig");
    let sums = signers.publish("stranger", "my-app/production/stranger");
    signers.sign("stranger", "eve", NAMESPACE, &sums);
    signers.refused("stranger", untrusted, "is not in /etc/deploy/allowed_signers");
    signers.sign("stranger", "ada", "git", &sums);
    signers.refused("stranger", untrusted, "it is for the namespace \"git\"");

    let sums = signers.publish_signed("altered");
    signers.put("altered", "SHA256SUMS", sums.replace("  env", " *env"));
    signers.refused("altered", mismatch, "SHA256SUMS was changed after it was signed");
    signers.put("altered", "SHA256SUMS", sums.as_str());
    signers.put("altered", "source.tar.gz", Release::new("x").procfile(BUILDS).compressed());
    signers.refused("altered", mismatch, "its source.tar.gz is not the one that was signed");
    signers.publish_signed("env");
    signers.put("env", "env", "export ADMIN=eve\n");
    signers.refused("env", mismatch, "its env is not the one that was signed");
    for title in ["my-app/production/r1", "my-app/staging/swapped", "shop/production/swapped"] {
        let sums = signers.publish("swapped", title);
        signers.sign("swapped", "ada", NAMESPACE, &sums);
        signers.refused("swapped", mismatch, &format!("it was signed as \"{title}\""));
    }

    signers.publish_signed("good");
    for (options, words) in [
        ("namespaces=\"git\"", "for other namespaces"),
        ("valid-before=\"20200101\"", "has expired"),
        ("valid-after=\"20990101\"", "is not yet valid"),
    ] {
        signers.trust(options, "ada");
        signers.refused("good", untrusted, words);
    }
    signers.trust("", "ada");
    host.write("/etc/deploy/revoked_keys", signers.public("ada"));
    signers.refused("good", untrusted, "is revoked in /etc/deploy/revoked_keys");
    host.write("/etc/deploy/revoked_keys", signers.public("eve"));
    host.sh("mv /etc/deploy/allowed_signers /root; touch /etc/deploy/allowed_signers");
    signers.refused("good", untrusted, "is not in /etc/deploy/allowed_signers");
    // Nothing is left of the verifications.
    assert_eq!(host.sh("ls -d /run/deployd-signature* 2>/dev/null || true"), "");
    let failed = host.sh("systemctl list-units --failed --plain --no-legend 'deployd-*'");
    assert_eq!(failed, "");
    host.sh("mv /root/allowed_signers /etc/deploy/");
    host.deploys("good");
    assert_eq!(host.served().as_deref(), Some("good"));
}

#[test]
fn keys_of_each_kind_and_certificates_are_trusted_and_a_rollback_is_not_verified() {
    let signers = Signers::new(Host::running_r1());
    let host = &signers.host;
    host.configure("DEPLOY_KEEP_RELEASES=9\n");
    signers.keygen(&["-q", "-s", "eve", "-I", "1", "-n", "bob@example.com", "ada.pub"], b"");
    let ca = format!("*@example.com cert-authority {}", signers.public("eve"));
    for (name, key) in [("ecdsa", "old"), ("rsa", "rsa"), ("certificate", "ada-cert.pub")] {
        let sums = signers.publish(name, &format!("my-app/production/{name}"));
        signers.sign(name, key, NAMESPACE, &sums);
        match name {
            "certificate" => host.write("/etc/deploy/allowed_signers", ca.as_str()),
            _ => signers.trust("", key),
        }
        host.deploys(name);
        assert_eq!(host.served().as_deref(), Some(name));
    }
    // The first release was never signed.
    host.deploy(&[&url("r1")]).exits(10);
    host.deploy(&["rollback", "my-app", "--to", "r1"]).exits(0);
    assert_eq!(host.served().as_deref(), Some("r1"));
    let page = host.deploy(&["doctor"]).exits(0);
    assert!(page.stdout.contains("signatures"), "{page:?}");
    host.sh("mv /usr/bin/ssh-keygen /root");
    let said = host.deploy(&[&url("rsa")]).exits(1);
    assert!(said.stderr.contains("openssh-client"), "{said:?}");
    assert_eq!(host.served().as_deref(), Some("r1"));
}
