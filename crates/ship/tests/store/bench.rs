//! A store, a repository and the program.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, Credentials, Region, ResponseChecksumValidation,
};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const KEYS: (&str, &str) = ("AKIDEXAMPLE", "a-secret-key-of-the-tests");
const REGION: &str = "eu-central-1";
const SHIP_TOML: &str = "app = \"shop\"\n[environments.staging]\n[environments.production]\n";

/// tests/aws/serve.py; it ends with this program.
struct Aws {
    endpoint: String,
    _child: Child,
}

static AWS: LazyLock<Aws> = LazyLock::new(|| {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    let aws = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/aws");
    let mut command = Command::new(aws.join("run.sh"));
    command.arg(aws.join("serve.py")).args(["--api", &address]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run.sh");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("its output");
    BufReader::new(stdout).read_line(&mut line).expect("its output");
    assert_eq!(line, "ready\n", "tests/aws/serve.py does not start");
    Aws { endpoint: format!("http://{address}"), _child: child }
});

/// How the program ended.
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// A bucket and a repository of an app.
pub struct Bench {
    bucket: String,
    directory: TempDir,
    runtime: Runtime,
    s3: Client,
}

impl Bench {
    pub fn new() -> Bench {
        let directory = tempfile::tempdir().expect("a directory");
        let name = directory.path().file_name().expect("a name").to_string_lossy();
        let letters = name.chars().filter(char::is_ascii_alphanumeric);
        let bucket = format!("releases-{}", letters.collect::<String>().to_lowercase());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let config = Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&AWS.endpoint)
            .region(Region::new(REGION))
            .credentials_provider(Credentials::new(KEYS.0, KEYS.1, None, None, "test"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            // moto has a wrong checksum for an object that was uploaded in parts.
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .force_path_style(true);
        let bench = Bench { bucket, directory, runtime, s3: Client::from_conf(config.build()) };
        bench.create();
        bench
    }

    fn create(&self) {
        use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
        let place = BucketLocationConstraint::EuCentral1;
        let place = CreateBucketConfiguration::builder().location_constraint(place).build();
        let made = self.s3.create_bucket().bucket(&self.bucket).create_bucket_configuration(place);
        self.runtime.block_on(made.send()).expect("a bucket");
        self.git(&["init", "--quiet", "--initial-branch=main"]);
        self.git(&["config", "user.name", "Ada"]);
        self.git(&["config", "user.email", "ada@example"]);
        self.write("ship.toml", SHIP_TOML);
        self.write(".gitignore", "id*\nseen\n");
        self.write("Procfile", "web: exec python3 web.py\n");
        self.write("web.py", include_str!("web.py"));
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "Sell hats"]);
    }

    pub fn endpoint(&self) -> &str {
        &AWS.endpoint
    }

    /// A file of tests/aws.
    pub fn aws_file(&self, name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/aws").join(name)
    }

    /// A program of tests/aws, which calls AWS.
    pub fn aws(&self, name: &str) -> Command {
        let mut command = Command::new(self.aws_file("run.sh"));
        command.arg(self.aws_file(name)).args(["--api", self.address()]);
        command
    }

    fn address(&self) -> &str {
        AWS.endpoint.trim_start_matches("http://")
    }

    /// Makes the next calls of an action fail.
    pub fn fail(&self, action: &str, code: &str, times: u32) {
        let body = format!("{{\"action\":\"{action}\",\"code\":\"{code}\",\"times\":{times}}}");
        self.set("faults", &body);
    }

    /// Sends a request of the tests' own.
    pub fn set(&self, path: &str, body: &str) {
        let answer = self.ask("POST", path, body);
        assert!(
            answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.0 200"),
            "{answer}"
        );
    }

    /// Returns the answer to a request of the tests' own.
    pub fn test(&self, path: &str) -> String {
        self.ask("GET", path, "")
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.address()).expect("tests/aws");
        let length = body.len();
        let head = format!("{method} /_test/{path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(format!("{head}{body}").as_bytes()).expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).expect("a file");
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).expect("a file")
    }

    /// Writes a file that cannot be compressed.
    pub fn noise(&self, name: &str, bytes: u64) -> Vec<u8> {
        let mut noise = Vec::new();
        let random = fs::File::open("/dev/urandom").expect("noise");
        random.take(bytes).read_to_end(&mut noise).expect("noise");
        fs::write(self.path().join(name), &noise).expect("a file");
        noise
    }

    pub fn git(&self, words: &[&str]) -> String {
        let output = Command::new("git").current_dir(self.path()).args(words).output();
        let output = output.expect("git");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Runs the program, which must succeed, and returns what it prints.
    pub fn ok(&self, words: &[&str]) -> String {
        let ended = self.run(words);
        assert_eq!(ended.code, 0, "{words:?}: {}", ended.stderr);
        ended.stdout
    }

    /// Returns the exit code, and all that ship printed.
    pub fn said(&self, words: &[&str]) -> (i32, String) {
        let Ended { code, stdout, stderr } = self.run(words);
        (code, stderr + &stdout)
    }

    pub fn run(&self, words: &[&str]) -> Ended {
        self.run_with(words, "")
    }

    pub fn run_with(&self, words: &[&str], input: &str) -> Ended {
        self.start(self.command(words), input)
    }

    pub fn run_as_editor(&self, editor: &str, words: &[&str]) -> Ended {
        let mut command = self.command(words);
        command.env("VISUAL", editor);
        self.start(command, "")
    }

    /// Runs the program where nobody answers.
    pub fn unreachable(&self, words: &[&str]) -> Ended {
        let mut command = self.command(words);
        command.env("AWS_ENDPOINT_URL", "http://127.0.0.1:9");
        self.start(command, "")
    }

    pub fn without_credentials(&self, words: &[&str]) -> Ended {
        let mut command = self.command(words);
        command.env_remove("AWS_ACCESS_KEY_ID").env("AWS_EC2_METADATA_DISABLED", "true");
        self.start(command, "")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ship"));
        command.current_dir(self.path()).args(words).env_clear();
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env("PATH", path).env("HOME", self.path());
        command.env("AWS_ENDPOINT_URL", &AWS.endpoint).env("AWS_REGION", REGION);
        command.env("AWS_ACCESS_KEY_ID", KEYS.0).env("AWS_SECRET_ACCESS_KEY", KEYS.1);
        command.env("SHIP_STORE", format!("s3://{}", self.bucket));
        command
    }

    fn start(&self, mut command: Command, input: &str) -> Ended {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("ship");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("its input");
        let Output { status, stdout, stderr } = child.wait_with_output().expect("ship");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Ended { code: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) }
    }

    pub fn put(&self, key: &str, text: &str) {
        let put = self.s3.put_object().bucket(&self.bucket).key(key);
        self.runtime.block_on(put.body(text.as_bytes().to_vec().into()).send()).expect("a write");
    }

    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        let get = self.s3.get_object().bucket(&self.bucket).key(key).send();
        self.runtime.block_on(async {
            Some(get.await.ok()?.body.collect().await.expect("its bytes").to_vec())
        })
    }

    pub fn text(&self, key: &str) -> String {
        let bytes = self.get(key).unwrap_or_else(|| panic!("there is no {key}"));
        String::from_utf8(bytes).expect("text")
    }

    /// Unpacks an archive with the system's tar.
    pub fn unpack(&self, key: &str) -> TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        let archive = self.get(key).unwrap_or_else(|| panic!("there is no {key}"));
        let tar = zstd::decode_all(archive.as_slice()).expect("zstd");
        let mut command = Command::new("tar");
        command.args(["-x", "-C"]).arg(directory.path()).stdin(Stdio::piped());
        let mut child = command.spawn().expect("tar");
        child.stdin.take().expect("a pipe").write_all(&tar).expect("its input");
        assert!(child.wait().expect("tar").success());
        directory
    }

    /// Makes a key, and returns its public half.
    pub fn key(&self, name: &str) -> String {
        let mut command = Command::new("ssh-keygen");
        command.current_dir(self.path()).args(["-q", "-t", "ed25519", "-N", "", "-f", name]);
        assert!(command.status().expect("ssh-keygen").success());
        self.read(&format!("{name}.pub"))
    }

    /// Whether ssh-keygen accepts the signature of a release for these sums.
    pub fn verify(&self, key: &str, principal: &str, release: &str, sums: &str) -> bool {
        let files = tempfile::tempdir().expect("a directory");
        let file = |name: &str| -> PathBuf { files.path().join(name) };
        let signers = format!("ada@example namespaces=\"deploy-release\" {key}");
        fs::write(file("signers"), signers).expect("a file");
        fs::write(file("sums.sig"), self.text(&format!("{release}/SHA256SUMS.sig")))
            .expect("a file");
        let mut command = Command::new("ssh-keygen");
        command.args(["-Y", "verify", "-n", "deploy-release", "-I", principal, "-f"]);
        command.arg(file("signers")).arg("-s").arg(file("sums.sig"));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("ssh-keygen");
        child.stdin.take().expect("a pipe").write_all(sums.as_bytes()).expect("its input");
        child.wait().expect("ssh-keygen").success()
    }
}

/// The SHA-256 by the system's program.
pub fn sha256(bytes: &[u8]) -> String {
    let mut command = Command::new("sha256sum");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sha256sum");
    child.stdin.take().expect("a pipe").write_all(bytes).expect("its input");
    let output = child.wait_with_output().expect("sha256sum");
    String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap_or_default().to_owned()
}
