//! Deploys on an instance that requires signatures. The keys and signatures are ssh-keygen's, and
//! so is the verification.

use super::{Story, WEB, texts};
use model::error::{Error, Exit};
use model::reason::Reason;
use model::release::digest::Sha256;
use model::release::sums::Sums;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const BUILDS: &str = "web: serve\nbuild: make\n";
const ADA: &str = "ada@example.com";

/// Keys, and the signatures that they make, on an instance.
struct Signing {
    story: Story,
}

#[expect(clippy::disallowed_methods, reason = "a test's own files and programs")]
impl Signing {
    /// An instance that runs r1, whose archive and env are not signed.
    async fn over_r1() -> Signing {
        let signing = Signing { story: Story::serving_r1().await };
        fs::create_dir_all(signing.file("")).expect("a directory");
        signing.key("ada", "ed25519");
        signing
    }

    /// The path of one of the instance's own files.
    fn file(&self, name: &str) -> PathBuf {
        self.story.dir.path().join("etc").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).expect("a file");
    }

    fn keygen(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut command = Command::new("ssh-keygen");
        command.current_dir(self.file("")).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("ssh-keygen");
        child.stdin.take().expect("a pipe").write_all(input).expect("a write");
        let output = child.wait_with_output().expect("its end");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        output.stdout
    }

    /// Makes a key.
    fn key(&self, name: &str, kind: &str) {
        let mut arguments = vec!["-q", "-t", kind, "-N", "", "-C", name, "-f", name];
        if kind == "rsa" {
            // The default size takes a second to find.
            arguments.extend(["-b", "2048"]);
        }
        self.keygen(&arguments, b"");
    }

    fn public(&self, name: &str) -> String {
        fs::read_to_string(self.file(&format!("{name}.pub"))).expect("a key")
    }

    /// Trusts a key, with the options of its line.
    fn trust(&self, options: &str, key: &str) {
        self.write("allowed_signers", &format!("{ADA} {options} {}", self.public(key)));
    }

    /// Writes a release and its SHA256SUMS, with another title if it is not to be its own.
    fn publish(&self, release: &str, title: Option<&str>) -> String {
        self.story.publish(release, BUILDS, "");
        let place = self.story.place("my-app", release);
        let sum = |name: &str| Sha256::of(&fs::read(place.join(name)).expect("a file"));
        let title = title.map_or_else(|| format!("my-app/production/{release}"), str::to_owned);
        let files = [("source.tar", &sum("source.tar")), ("env", &sum("env"))];
        let text = Sums::new(title, &files).to_text();
        fs::write(place.join("SHA256SUMS"), &text).expect("a file");
        text
    }

    fn sign(&self, release: &str, key: &str, namespace: &str, text: &str) {
        let signature = ["-q", "-Y", "sign", "-n", namespace, "-f", key];
        let signature = self.keygen(&signature, text.as_bytes());
        let place = self.story.place("my-app", release);
        fs::write(place.join("SHA256SUMS.sig"), signature).expect("a file");
    }

    /// Publishes a release, and signs it with ada's key.
    fn publish_signed(&self, release: &str) {
        let text = self.publish(release, None);
        self.sign(release, "ada", "deploy-release", &text);
    }

    /// Replaces a file of a release.
    fn replace(&self, release: &str, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.story.place("my-app", release).join(name), bytes).expect("a file");
    }

    fn read(&self, release: &str, name: &str) -> Vec<u8> {
        fs::read(self.story.place("my-app", release).join(name)).expect("a file")
    }

    /// Deploys a release that is refused before anything of it runs, while r1 serves.
    #[track_caller]
    fn refused(&self, result: model::error::Result<super::Done>, reason: Reason) -> Error {
        let error = Story::fails(result, Exit::Unusable);
        assert_eq!(error.reason(), reason, "{}", error.chain());
        assert!(error.advice().is_some(), "{}", error.chain());
        assert_eq!(self.story.state().runs, [""; 0], "{}", error.chain());
        assert_eq!(self.story.installed(), ["r1"]);
        assert_eq!(self.story.served_by(), ["web-r1@1"]);
        error
    }

    async fn is_refused(&self, reason: Reason, words: &str) {
        let error = self.refused(self.story.deploy("r2").await, reason);
        assert!(error.chain().contains(words), "{words}: {}", error.chain());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_allowed_signers_no_signature_is_required_or_read() {
    let signing = Signing::over_r1().await;
    signing.publish("r2", Some("other/production/r9"));
    signing.replace("r2", "SHA256SUMS.sig", "none");
    signing.story.deploy("r2").await.expect("it is good");
    assert_eq!(signing.story.served_by(), ["web-r2@1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_deployed_that_a_trusted_key_has_signed() {
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let signing = Signing::over_r1().await;
        signing.key(kind, kind);
        signing.trust("namespaces=\"deploy-release\",valid-after=\"20200101\"", kind);
        let text = signing.publish("r2", None);
        signing.sign("r2", kind, "deploy-release", &text);
        let cx = signing.story.cx();
        signing.story.deploy_in(&cx, "my-app", "r2").await.expect(kind);
        let told = cx.events.clone();
        assert!(texts(&told).await.contains(&"build".to_owned()));
        let label = "r2".parse().expect("a label");
        let by = signing.story.app().manifest(&label).expect("a manifest").signed_by;
        let by = by.expect("a signer");
        assert_eq!(by.principal, ADA);
        assert!(by.key.starts_with("SHA256:"), "{by}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_trusted_by_the_key_that_signed_it() {
    let signing = Signing::over_r1().await;
    signing.key("ca", "ed25519");
    signing.keygen(&["-q", "-s", "ca", "-I", "1", "-n", ADA, "-V", "+1h", "ada.pub"], b"");
    let allow = |line: &str| signing.write("allowed_signers", line);
    let text = signing.publish("r2", None);
    signing.sign("r2", "ada-cert.pub", "deploy-release", &text);
    allow(&format!("bob@example.com cert-authority {}", signing.public("ca")));
    signing.is_refused(Reason::SignerNotTrusted, "is for a principal that").await;
    allow(&format!("*@example.com cert-authority {}", signing.public("ca")));
    signing.story.deploy("r2").await.expect("it is good");
    let label = "r2".parse().expect("a label");
    let by = signing.story.app().manifest(&label).expect("a manifest").signed_by;
    assert_eq!(by.expect("a signer").principal, ADA);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_without_a_signature_is_refused() {
    let signing = Signing::over_r1().await;
    signing.trust("", "ada");
    signing.story.publish("r2", BUILDS, "");
    signing.is_refused(Reason::SignatureMissing, "is not signed: there is no SHA256SUMS,").await;
    signing.publish("r2", None);
    signing.is_refused(Reason::SignatureMissing, "there is no SHA256SUMS.sig").await;
    signing.replace("r2", "SHA256SUMS.sig", "ada@example.com\n");
    signing.is_refused(Reason::SignatureMissing, "is not a signature by OpenSSH").await;
    signing.replace("r2", "SHA256SUMS.sig", vec![b'A'; 17 << 10]);
    signing.is_refused(Reason::LimitExceeded, "at most 16384 bytes are read").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_trusted_now_is_refused() {
    let signing = Signing::over_r1().await;
    signing.publish_signed("r2");
    signing.key("eve", "ed25519");
    let not_trusted = Reason::SignerNotTrusted;
    signing.trust("", "eve");
    signing.is_refused(not_trusted, "is not in").await;
    signing.write("allowed_signers", "");
    signing.is_refused(not_trusted, "is not in").await;
    signing.write("allowed_signers", "what is this\n");
    signing.is_refused(not_trusted, "is not in").await;
    for (options, words) in [
        ("namespaces=\"git\"", "for other namespaces"),
        ("valid-before=\"20200101\"", "has expired in"),
        ("valid-after=\"20990101\"", "is not yet valid in"),
    ] {
        signing.trust(options, "ada");
        signing.is_refused(not_trusted, words).await;
    }
    signing.trust("", "ada");
    let text = String::from_utf8(signing.read("r2", "SHA256SUMS")).expect("a text");
    signing.sign("r2", "ada", "git", &text);
    signing.is_refused(not_trusted, "it is for the namespace \"git\", not deploy-release").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_refused() {
    let signing = Signing::over_r1().await;
    signing.publish_signed("r2");
    signing.trust("", "ada");
    let not_trusted = Reason::SignerNotTrusted;
    signing.write("revoked_keys", &signing.public("ada"));
    signing.is_refused(not_trusted, "is revoked in").await;
    signing.keygen(&["-q", "-k", "-f", "revoked_keys", "ada.pub"], b"");
    signing.is_refused(not_trusted, "is revoked in").await;
    signing.write("revoked_keys", "what is this\n");
    signing.is_refused(not_trusted, "neither a key revocation list nor public keys").await;
    signing.key("eve", "ed25519");
    signing.write("revoked_keys", &signing.public("eve"));
    signing.story.deploy("r2").await.expect("it is good");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_release_is_refused() {
    let signing = Signing::over_r1().await;
    signing.trust("", "ada");
    let mismatch = Reason::SignatureMismatch;
    signing.publish_signed("r2");
    signing.publish_signed("r3");
    let whole = |name: &str| signing.read("r2", name);
    let [env, sums, archive] = ["env", "SHA256SUMS", "source.tar"].map(whole);
    signing.replace("r2", "env", "export ADMIN=eve\n");
    signing.is_refused(mismatch, "its env is not the one that was signed").await;
    signing.replace("r2", "env", &env);
    // Another archive, which can be unpacked.
    signing.replace("r2", "source.tar", signing.read("r3", "source.tar"));
    signing.is_refused(mismatch, "its source.tar is not the one that was signed").await;
    signing.replace("r2", "source.tar", &archive);
    signing.replace("r2", "SHA256SUMS", [&sums[..], b"\n"].concat());
    signing.is_refused(mismatch, "SHA256SUMS was changed after it was signed").await;
    signing.replace("r2", "SHA256SUMS", &sums);
    // An archive that nobody has signed, and which is found first.
    signing.replace("r2", "source.tar.zst", "zstd");
    signing.is_refused(mismatch, "SHA256SUMS has no sum of source.tar.zst").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_release_under_another_name_is_refused() {
    let signing = Signing::over_r1().await;
    signing.trust("", "ada");
    for title in ["my-app/production/r9", "my-app/staging/r2", "other/production/r2"] {
        let text = signing.publish("r2", Some(title));
        signing.sign("r2", "ada", "deploy-release", &text);
        let words = format!("it was signed as \"{title}\", not as my-app/production/r2");
        signing.is_refused(Reason::SignatureMismatch, &words).await;
    }
    let text = signing.publish("r2", None);
    let (_, nameless) = text.split_once('\n').expect("two lines");
    signing.replace("r2", "SHA256SUMS", nameless);
    signing.sign("r2", "ada", "deploy-release", nameless);
    signing.is_refused(Reason::SignatureMismatch, "does not say which release it is of").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsigned_release_that_is_installed_needs_a_signature_for_its_next_deploy() {
    let signing = Signing::over_r1().await;
    signing.story.publish("r2", WEB, "");
    signing.story.deploy("r2").await.expect("it is good");
    signing.trust("", "ada");
    for release in ["r1", "r2"] {
        let error = Story::fails(signing.story.deploy(release).await, Exit::Unusable);
        assert_eq!(error.reason(), Reason::SignatureMissing);
        assert_eq!(signing.story.served_by(), ["web-r2@1"]);
    }
    // A rollback goes to what was good here, and reads nothing from the source.
    signing.story.roll_back(None).await.expect("it is good");
    assert_eq!(signing.story.served_by(), ["web-r1@1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_release_again_is_verified_and_not_fetched() {
    let signing = Signing::over_r1().await;
    signing.publish_signed("r2");
    signing.story.deploy("r2").await.expect("it is good");
    let signed_by = || {
        let label = "r2".parse().expect("a label");
        signing.story.app().manifest(&label).expect("a manifest").signed_by
    };
    assert_eq!(signed_by(), None);
    signing.trust("", "ada");
    for _ in 0..2 {
        let done = signing.story.deploy("r2").await.expect("it is good");
        assert_eq!(done.message, "my-app r2 is already running");
        assert_eq!(signed_by().expect("a signer").principal, ADA);
    }
    assert_eq!(signing.story.state().runs.len(), 1);
    signing.replace("r2", "SHA256SUMS", "");
    let error = Story::fails(signing.story.deploy("r2").await, Exit::Unusable);
    assert_eq!(error.reason(), Reason::SignatureMismatch);
    assert_eq!(signing.story.served_by(), ["web-r2@1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_ssh_keygen_nothing_is_deployed_and_the_package_is_named() {
    let mut signing = Signing::over_r1().await;
    signing.publish_signed("r2");
    signing.trust("", "ada");
    signing.story.trust = signing.story.trust.clone().with_keygen("/nonexistent/ssh-keygen");
    let error = Story::fails(signing.story.deploy("r2").await, Exit::Failed);
    assert!(error.advice().unwrap_or_default().contains("openssh-client"), "{}", error.chain());
    assert_eq!(signing.story.served_by(), ["web-r1@1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_keys_that_cannot_be_read_trusts_nobody() {
    let signing = Signing::over_r1().await;
    signing.publish_signed("r2");
    let list = signing.file("allowed_signers");
    std::os::unix::fs::symlink("nowhere", list).expect("a link");
    signing.is_refused(Reason::SignerNotTrusted, "cannot be read, so no key is trusted").await;
}
