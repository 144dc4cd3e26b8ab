//! Explains in the operator's words why a request got no response.

use super::retry::Failure;
use model::error::Error;
use model::reason::Reason;
use std::error::Error as StdError;
use std::io::ErrorKind;

/// The reason why a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obstacle {
    Name,
    Refused,
    Route,
    Timeout,
    Clock,
    Certificate,
    Tls,
    /// The proxy refuses to open the tunnel.
    Tunnel,
    Other,
}

impl Obstacle {
    fn reason(self) -> Reason {
        match self {
            Obstacle::Name => Reason::NameUnresolved,
            Obstacle::Refused => Reason::ConnectionRefused,
            Obstacle::Route => Reason::NoRoute,
            Obstacle::Timeout => Reason::NoAnswer,
            Obstacle::Clock => Reason::ClockWrong,
            Obstacle::Certificate => Reason::CertificateUntrusted,
            Obstacle::Tls => Reason::TlsFailed,
            Obstacle::Tunnel => Reason::ProxyRefused,
            Obstacle::Other => Reason::SourceFailed,
        }
    }
}

/// Returns the failure of a request to `url`, sent through `proxy` if given, that got no response.
/// The innermost reason of `cause` explains it: the layers above only state that a request failed.
pub(super) fn unreachable(
    url: &str,
    proxy: Option<&str>,
    cause: &(dyn StdError + 'static),
) -> Failure {
    let reasons = reasons(cause);
    let obstacle = reasons.iter().map(|reason| obstacle(*reason));
    let obstacle = obstacle.rev().find(|obstacle| *obstacle != Obstacle::Other);
    let obstacle = obstacle.unwrap_or(Obstacle::Other);
    let innermost = reasons.last().map(|reason| reason.to_string()).unwrap_or_default();
    let (what, help) = match proxy.and_then(|proxy| advice_for_proxy(obstacle, proxy)) {
        Some(advice) => advice,
        None => {
            let (what, help) = advice(obstacle);
            (what.to_owned(), help.to_owned())
        }
    };
    let error = Error::source(format!("{url}: {what}")).because(innermost).help(help);
    let error = error.with_reason(obstacle.reason());
    match obstacle {
        Obstacle::Clock | Obstacle::Certificate | Obstacle::Tls => Failure::Final(error),
        _ => Failure::Transient(error),
    }
}

/// Returns every error of the chain, including the inner error of an I/O error, which is not its
/// `source()`.
fn reasons<'a>(outermost: &'a (dyn StdError + 'static)) -> Vec<&'a (dyn StdError + 'static)> {
    let mut all = vec![outermost];
    let mut reason = outermost;
    loop {
        let carried = reason.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref());
        reason = match (carried, reason.source()) {
            (Some(carried), _) => carried,
            (None, Some(source)) => source,
            (None, None) => return all,
        };
        all.push(reason);
    }
}

/// Joins all reasons on one line, for an error whose own text is too short.
pub(super) fn joined(error: &(dyn StdError + 'static)) -> String {
    let texts: Vec<_> = reasons(error).iter().map(|reason| reason.to_string()).collect();
    texts.join(": ").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn obstacle(reason: &(dyn StdError + 'static)) -> Obstacle {
    if let Some(error) = reason.downcast_ref::<std::io::Error>() {
        return match error.kind() {
            ErrorKind::ConnectionRefused => Obstacle::Refused,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Obstacle::Route,
            ErrorKind::TimedOut => Obstacle::Timeout,
            // The resolver's own error has no kind.
            _ if error.to_string().contains("lookup address") => Obstacle::Name,
            _ => Obstacle::Other,
        };
    }
    if let Some(error) = reason.downcast_ref::<rustls::Error>() {
        return tls(error);
    }
    match reason.to_string() {
        text if text.contains("tunnel error: proxy authorization") => Obstacle::Tunnel,
        text if text.contains("tunnel error: unsuccessful") => Obstacle::Tunnel,
        text if text.contains("dns error") => Obstacle::Name,
        text if text.contains("timed out") || text.contains("timeout") => Obstacle::Timeout,
        _ => Obstacle::Other,
    }
}

fn tls(error: &rustls::Error) -> Obstacle {
    use rustls::CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    match error {
        rustls::Error::InvalidCertificate(
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. },
        ) => Obstacle::Clock,
        rustls::Error::InvalidCertificate(_) => Obstacle::Certificate,
        _ => Obstacle::Tls,
    }
}

/// Returns the advice for a request through a proxy: the only connection is to the proxy, so
/// network errors are the proxy's. TLS errors are the server's.
fn advice_for_proxy(obstacle: Obstacle, proxy: &str) -> Option<(String, String)> {
    let what = match obstacle {
        Obstacle::Name => format!("the name of the proxy {proxy} cannot be resolved"),
        Obstacle::Refused => format!("the proxy {proxy} refuses the connection"),
        Obstacle::Route => format!("there is no route to the proxy {proxy}"),
        Obstacle::Timeout => format!("the proxy {proxy}, or the server behind it, does not answer"),
        Obstacle::Tunnel => format!("the proxy {proxy} does not connect to the server"),
        Obstacle::Clock | Obstacle::Certificate | Obstacle::Tls | Obstacle::Other => return None,
    };
    let help = match obstacle {
        Obstacle::Tunnel => {
            "allow the server in the proxy, or name it in NO_PROXY; a proxy that wants a password \
             takes it from HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT"
        }
        _ => "check HTTPS_PROXY, HTTP_PROXY and NO_PROXY in /etc/deploy/agent.env, and the proxy",
    };
    Some((what, help.to_owned()))
}

/// Returns the advice for a response that a proxy probably sent itself.
pub(super) fn answer_of_a_proxy(proxy: &str) -> String {
    format!(
        "look into the log of the proxy {proxy}, by way of which the server is asked; name the \
         server in NO_PROXY to ask it directly"
    )
}

fn advice(obstacle: Obstacle) -> (&'static str, &'static str) {
    match obstacle {
        Obstacle::Name => (
            "the server's name cannot be resolved",
            "check the name (AWS_REGION and AWS_ENDPOINT_URL make S3's) and this instance's DNS \
             (`resolvectl query NAME`)",
        ),
        Obstacle::Refused => (
            "the server refuses the connection",
            "check that the server runs, and the host and port in the URL or AWS_ENDPOINT_URL",
        ),
        Obstacle::Route => (
            "there is no route to the server",
            "give the subnet a NAT gateway or an S3 gateway endpoint, or set HTTPS_PROXY",
        ),
        Obstacle::Timeout => (
            "the server does not answer",
            "check the security group's outbound rules and the subnet's route to it (a NAT \
             gateway, or an S3 gateway endpoint); behind a proxy, set HTTPS_PROXY",
        ),
        Obstacle::Clock => (
            "the server's certificate is not valid at this instance's time",
            "check this instance's clock (`timedatectl`; chrony sets it), then the certificate's \
             dates",
        ),
        Obstacle::Certificate => (
            "the server's certificate is not trusted",
            "add its issuer to this instance's certificates (`update-ca-certificates`), or use \
             the name that the certificate is for",
        ),
        Obstacle::Tls => (
            "no TLS connection to the server",
            "check that https is what is spoken at that host and port",
        ),
        Obstacle::Tunnel => (
            "the proxy does not connect to the server",
            "allow the server in the proxy, or name it in NO_PROXY",
        ),
        Obstacle::Other => (
            "the connection failed",
            "try again; if it stays so, check the network between this instance and the server",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{CertificateError, Error as Tls};
    use std::io;

    fn said(cause: &(dyn StdError + 'static)) -> (String, String) {
        let (Failure::Final(error) | Failure::Transient(error)) =
            unreachable("https://host/r1/env", None, cause);
        (error.chain(), error.advice().unwrap().to_owned())
    }

    #[test]
    fn a_connection_error_names_the_proxy() {
        let by_proxy = |cause: io::Error| {
            let (Failure::Final(error) | Failure::Transient(error)) =
                unreachable("https://host/r1/env", Some("proxy.local:3128"), &cause);
            format!("{} | {}", error.chain(), error.advice().unwrap())
        };
        for (cause, expected) in [
            (io::Error::from(ErrorKind::ConnectionRefused), "refuses the connection"),
            (io::Error::other("tunnel error: unsuccessful"), "does not connect to the server"),
            (io::Error::other("failed to lookup address information: x"), "cannot be resolved"),
        ] {
            let said = by_proxy(cause);
            assert!(said.contains("the proxy proxy.local:3128"), "{said}");
            assert!(said.contains(expected) && said.contains("NO_PROXY"), "{said}");
        }
        let unknown = Tls::InvalidCertificate(CertificateError::UnknownIssuer);
        let said = by_proxy(io::Error::new(ErrorKind::InvalidData, unknown));
        assert!(said.contains("the server's certificate"), "{said}");
    }

    #[test]
    fn a_tls_failure_inside_an_io_error_gives_its_own_reason() {
        let expired = Tls::InvalidCertificate(CertificateError::Expired);
        let (chain, help) = said(&io::Error::new(ErrorKind::InvalidData, expired));
        assert!(chain.starts_with("https://host/r1/env: the server's certificate is not valid"));
        assert!(help.contains("timedatectl"));

        let unknown = Tls::InvalidCertificate(CertificateError::UnknownIssuer);
        let (_, help) = said(&io::Error::new(ErrorKind::InvalidData, unknown));
        assert!(help.contains("update-ca-certificates"));
    }

    #[test]
    fn network_and_clock_errors_may_pass_at_boot() {
        let clock = Tls::InvalidCertificate(CertificateError::NotValidYet);
        let issuer = Tls::InvalidCertificate(CertificateError::UnknownIssuer);
        for (cause, expected) in [
            (io::Error::from(ErrorKind::NetworkUnreachable), true),
            (io::Error::other("failed to lookup address information: again"), true),
            (io::Error::new(ErrorKind::InvalidData, clock), true),
            (io::Error::new(ErrorKind::InvalidData, issuer), false),
        ] {
            let (Failure::Final(error) | Failure::Transient(error)) = unreachable("", None, &cause);
            assert_eq!(error.reason().may_pass_at_boot(), expected, "{cause}");
        }
    }

    #[test]
    fn each_kind_of_io_error_has_its_own_advice() {
        let kinds = [ErrorKind::ConnectionRefused, ErrorKind::TimedOut, ErrorKind::HostUnreachable];
        let helps = kinds.map(|kind| said(&io::Error::from(kind)).1);
        assert!(helps[0].contains("runs") && helps[1].contains("outbound"));
        assert!(helps[2].contains("gateway endpoint"));
        let name = io::Error::other("failed to lookup address information: unknown");
        assert!(said(&name).0.contains("cannot be resolved"));
    }
}
