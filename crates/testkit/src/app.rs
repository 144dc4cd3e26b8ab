//! Releases of a small app, created in memory as a build server would.

use crate::s3::S3Server;
use flate2::write::GzEncoder;
use std::io::Write;

/// The bucket of all releases of the tests.
pub const BUCKET: &str = "releases";

/// The program of [`Release::new`]: a server and a worker in Python.
pub const APP: &str = include_str!("app.py");

/// A release of `my-app`, by default with a healthy web process and worker: the web process
/// responds to every request with the release's name.
pub struct Release {
    name: String,
    env: Vec<u8>,
    files: Vec<File>,
}

/// A file of an archive.
pub struct File {
    /// Its path in the archive.
    pub path: String,
    /// Its permission bits.
    pub mode: u32,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl Release {
    /// A release whose web process and worker are healthy.
    pub fn new(name: &str) -> Release {
        Release::empty(name)
            .file("app.py", APP)
            .file("VERSION", format!("{name}\n"))
            .procfile("web: python3 app.py web\nworker: python3 app.py worker\n")
    }

    /// A release without any file.
    pub fn empty(name: &str) -> Release {
        Release { name: name.to_owned(), env: Vec::new(), files: Vec::new() }
    }

    /// Adds an assignment to env.
    pub fn set(mut self, assignment: &str) -> Release {
        self.env.extend(format!("export {assignment}\n").bytes());
        self
    }

    /// Sets the whole env file.
    pub fn env(mut self, bytes: impl Into<Vec<u8>>) -> Release {
        self.env = bytes.into();
        self
    }

    /// Sets the whole Procfile.
    pub fn procfile(self, text: &str) -> Release {
        self.file("Procfile", text)
    }

    /// Adds a build that waits for `Host::go`.
    pub fn waiting(self) -> Release {
        let build = "build: until [ -e \"$DEPLOY_SHARED/go\" ]; do sleep 0.1; done";
        self.procfile(&format!("web: python3 app.py web\nworker: python3 app.py worker\n{build}\n"))
    }

    /// Adds a file to the archive.
    pub fn file(self, path: &str, bytes: impl Into<Vec<u8>>) -> Release {
        self.file_of_mode(0o644, path, bytes)
    }

    /// Adds a file with these permission bits; replaces one of the same path.
    pub fn file_of_mode(mut self, mode: u32, path: &str, bytes: impl Into<Vec<u8>>) -> Release {
        self.files.retain(|there| there.path != path);
        self.files.push(File { path: path.to_owned(), mode, bytes: bytes.into() });
        self
    }

    /// The name under which it is uploaded.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The env file as it is uploaded.
    pub fn env_bytes(&self) -> &[u8] {
        &self.env
    }

    /// The files of the archive.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// Uploads it as `my-app/production/NAME`, compressed with gzip.
    pub fn publish(&self, s3: &S3Server) {
        self.publish_as(s3, "my-app");
    }

    /// Uploads it as `APP/production/NAME`, compressed with gzip.
    pub fn publish_as(&self, s3: &S3Server, app: &str) {
        let key = |file: &str| format!("{app}/production/{}/{file}", self.name);
        s3.put(BUCKET, &key("source.tar.gz"), self.compressed());
        s3.put(BUCKET, &key("env"), self.env.clone());
    }

    /// Uploads it compressed with zstd.
    pub fn publish_zstd(&self, s3: &S3Server) {
        let archive = zstd::encode_all(self.archive().as_slice(), 3).expect("compress");
        let key = |file: &str| format!("my-app/production/{}/{file}", self.name);
        s3.put(BUCKET, &key("source.tar.zst"), archive);
        s3.put(BUCKET, &key("env"), self.env.clone());
    }

    /// The archive, compressed with gzip.
    pub fn compressed(&self) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&self.archive()).expect("compress");
        gzip.finish().expect("compress")
    }

    fn archive(&self) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for File { path, mode, bytes } in &self.files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(*mode);
            archive.append_data(&mut header, path, bytes.as_slice()).expect("add a file");
        }
        archive.into_inner().expect("end the archive")
    }
}

/// The `s3://…` URL of a release of `my-app`.
pub fn url(release: &str) -> String {
    format!("s3://{BUCKET}/my-app/production/{release}")
}
