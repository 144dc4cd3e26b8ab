//! The server, its addressing style, and the payer: settings that the SDK reads from the
//! environment, and those that it leaves to each program.

use super::connection::Trust;
use aws_config::SdkConfig;
use aws_sdk_s3::types::RequestPayer;
use hyper::Uri;
use model::error::{Error, Result};
use model::release::settings::AGENT_FILE;
use reqwest::Certificate;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::env::{self, VarError};

/// The server that gets the requests, if not Amazon's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint(pub String);

impl Endpoint {
    /// Returns the endpoint of the environment or the profile, whichever the SDK uses; `name` is
    /// the variable of the service alone.
    pub fn of(sdk: &SdkConfig, name: &str) -> Result<Option<Endpoint>> {
        let is_set = |name| variable(name).map(|value| value.is_some_and(|v| v == "true"));
        if is_set("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")? {
            return Ok(None);
        }
        if let Some(url) = variable(name)? {
            return Endpoint::parse(name, &url).map(Some);
        }
        let url = sdk.endpoint_url().filter(|url| !url.is_empty());
        url.map(|url| Endpoint::parse("AWS_ENDPOINT_URL", url)).transpose()
    }

    /// The SDK appends the bucket to the path unchanged: it needs a trailing slash.
    fn parse(name: &str, url: &str) -> Result<Endpoint> {
        let cannot = |why: &str| Error::usage(format!("{name} is no URL")).because(why.to_owned());
        if url.contains(['@', '?', '#']) {
            let help = format!("write https://HOST[:PORT][/PATH] in {AGENT_FILE}");
            return Err(cannot("it holds a user, a query or a fragment").help(help));
        }
        let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        if !matches!(scheme.as_deref(), Some("http" | "https")) {
            let help = format!("write {name}=https://{url}, or http://, in {AGENT_FILE}");
            return Err(cannot("it has no http:// or https://").help(help));
        }
        let host = url.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
        if host.is_none_or(|host| host.is_empty()) {
            let help = format!("write {name}=https://HOST[:PORT][/PATH] in {AGENT_FILE}");
            return Err(cannot("it has no host").help(help));
        }
        let slash = if url.ends_with('/') { "" } else { "/" };
        Ok(Endpoint(format!("{url}{slash}")))
    }
}

/// Whether the bucket is in the path rather than in the host name.
pub(super) fn is_path_style(is_elsewhere: bool) -> Result<bool> {
    path_style(variable("AWS_S3_ADDRESSING_STYLE")?.as_deref(), is_elsewhere)
}

fn path_style(style: Option<&str>, is_elsewhere: bool) -> Result<bool> {
    match style {
        Some("path") => Ok(true),
        Some("virtual") => Ok(false),
        // Few servers other than Amazon's have a host name for each bucket.
        None | Some("auto") => Ok(is_elsewhere),
        Some(_) => Err(Error::usage("AWS_S3_ADDRESSING_STYLE is none of path, virtual and auto")
            .help(format!("write one of these in {AGENT_FILE}, or remove it"))),
    }
}

/// The requester-pays setting.
pub(super) fn payer() -> Result<Option<RequestPayer>> {
    match variable("AWS_REQUEST_PAYER")?.as_deref() {
        None => Ok(None),
        Some("requester") => Ok(Some(RequestPayer::Requester)),
        Some(_) => Err(Error::usage("AWS_REQUEST_PAYER is not `requester`")
            .help(format!("write AWS_REQUEST_PAYER=requester in {AGENT_FILE}, or remove it"))),
    }
}

/// The certificates of AWS_CA_BUNDLE, in place of the system's, as with the AWS CLI.
pub(super) fn trust() -> Result<Trust> {
    let Some(path) = variable("AWS_CA_BUNDLE")? else { return Ok(None) };
    let what = || Error::usage(format!("read AWS_CA_BUNDLE={path}"));
    let help = "name a file with certificates in PEM form, or remove AWS_CA_BUNDLE: the \
                system's certificates are trusted without it";
    let pem = std::fs::read(&path).map_err(|e| what().because(e).help(help))?;
    check_certificates(&pem).map_err(|why| what().because(why).help(help))?;
    let trusted = Certificate::from_pem_bundle(&pem);
    trusted.map(Some).map_err(|e| what().because(e).help(help))
}

/// Checks the certificates first: the HTTP client names no invalid one before it is used.
fn check_certificates(pem: &[u8]) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("it is no PEM: {error:?}"))?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(()) }
}

/// Reads an environment variable; an empty one counts as unset.
fn variable(name: &str) -> Result<Option<String>> {
    match env::var(name) {
        Ok(value) => Ok(Some(value.trim().to_owned()).filter(|value| !value.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(Error::usage(format!("{name} is not UTF-8 text"))
            .help(format!("correct it in {AGENT_FILE}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::error::Exit;

    #[test]
    fn an_endpoint_ends_with_a_slash() {
        for (url, expected) in [
            ("http://host:9000", "http://host:9000/"),
            ("https://host/s3", "https://host/s3/"),
            ("HTTPS://host/s3/", "HTTPS://host/s3/"),
        ] {
            let endpoint = Endpoint::parse("AWS_ENDPOINT_URL", url).unwrap();
            assert_eq!(endpoint, Endpoint(expected.into()));
        }
    }

    #[test]
    fn an_endpoint_that_is_no_url_is_refused_with_the_one_that_was_meant() {
        for (url, help) in [
            ("minio.local:9000", "AWS_ENDPOINT_URL=https://minio.local:9000, or http://"),
            ("s3://releases", "AWS_ENDPOINT_URL="),
            ("http://", "https://HOST[:PORT][/PATH]"),
            ("https://user:secret@host", "https://HOST[:PORT][/PATH]"),
        ] {
            let error = Endpoint::parse("AWS_ENDPOINT_URL", url).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage, "{url}");
            let said = format!("{} {}", error.chain(), error.advice().unwrap());
            assert!(said.contains(help) && !said.contains("secret"), "{said}");
        }
    }

    #[test]
    fn the_style_can_be_set_and_defaults_to_path_elsewhere() {
        assert!(path_style(None, true).unwrap() && !path_style(None, false).unwrap());
        assert!(path_style(Some("path"), false).unwrap());
        assert!(!path_style(Some("virtual"), true).unwrap());
        assert_eq!(path_style(Some("dns"), true).unwrap_err().exit(), Exit::Usage);
    }

    #[test]
    fn refuses_certificates_that_the_library_would_panic_on() {
        let broken = b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
        let empty = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for pem in [&b"no certificate"[..], broken, empty, b""] {
            assert!(check_certificates(pem).is_err());
        }
    }
}
