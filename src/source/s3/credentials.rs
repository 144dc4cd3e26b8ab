//! Finds credentials, and explains why there are none, in words that fit a daemon which starts no
//! program.

use super::connection::{Route, Trust, http_client};
use crate::source::connect_error;
use aws_config::Region;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_sdk_s3::config::{ProvideCredentials, SharedCredentialsProvider};
use model::error::Error;
use model::reason::Reason;
use model::release::settings::AGENT_FILE;

/// Builds the SDK's chain without cached results: a chain keeps what it found once, even the
/// mistake in a profile that has been corrected meanwhile.
pub(super) async fn chain(region: &str, trust: Trust) -> SharedCredentialsProvider {
    let chain = DefaultCredentialsChain::builder()
        .region(Region::new(region.to_owned()))
        .configure(config(region, trust));
    SharedCredentialsProvider::new(chain.build().await)
}

/// Returns why the profile in AWS_PROFILE has no credentials; `None` if it has some, or none is
/// named. The chain continues with other providers and reports only the last failure.
pub(super) async fn fault_of_profile(region: &str) -> Option<String> {
    std::env::var_os("AWS_PROFILE").filter(|name| !name.is_empty())?;
    let profile = ProfileFileCredentialsProvider::builder().configure(&config(region, None));
    let error = profile.build().provide_credentials().await.err()?;
    Some(connect_error::joined(&error))
}

pub(super) fn config(region: &str, trust: Trust) -> ProviderConfig {
    ProviderConfig::without_region()
        .with_region(Some(Region::new(region.to_owned())))
        .with_http_client(http_client(Route::Direct, trust))
}

/// Lists the providers that were tried, with advice for the one that is at fault.
pub(super) fn explain(asked: &str, cause: String) -> Error {
    missing(format!("{asked} cannot be read without AWS credentials"), cause)
}

/// The error of a request that needs credentials.
pub(super) fn missing(what: String, cause: String) -> Error {
    let (why, help) = describe(cause);
    Error::source(what).because(why).with_reason(Reason::CredentialsMissing).help(help)
}

fn describe(cause: String) -> (String, String) {
    let has = |word: &str| cause.contains(word);
    let instead = format!(
        "attach a role to this instance and remove AWS_PROFILE, or put keys into {AGENT_FILE} or \
         the profile; a profile may also name a role (role_arn with credential_source or \
         web_identity_token_file)"
    );
    if has("credentials-process") {
        let why = "the profile names a credential_process, and deployd starts no program";
        (why.to_owned(), instead)
    } else if has("enabled: sso") || has("sso-session") || has("SSO config") {
        let why = "the profile signs in with SSO, which is for people and ends after hours";
        (why.to_owned(), instead)
    } else if has("credentials-login") {
        let why = "the profile uses the session of `aws login`, which is for people";
        (why.to_owned(), instead)
    } else if has("auth token could not be used") {
        let help = "write the token without a line end into the file that \
                    AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names: `printf %s TOKEN`";
        (cause, help.to_owned())
    } else if has("was not defined") || has("did not contain credential") {
        let home = std::env::var("HOME").unwrap_or_default();
        let help = format!(
            "check AWS_PROFILE, and that {home}/.aws/config or {home}/.aws/credentials has that \
             profile (AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE name other files)"
        );
        (cause, help)
    } else {
        let help = format!(
            "attach a role to this instance, and allow its metadata service (IMDSv2, hop limit 1 \
             is enough); searched were the environment and {AGENT_FILE} (AWS_ACCESS_KEY_ID), the \
             profile files (AWS_PROFILE), a web identity, a container's role and the instance's \
             metadata"
        );
        (cause, help)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_daemon_cannot_do_is_named() {
        let feature = "ProfileFile provider could not be built: This behavior requires following \
                       cargo feature(s) enabled: ";
        for (cause, why) in [
            (format!("{feature}credentials-process. In order to …"), "credential_process"),
            (format!("{feature}sso. "), "signs in with SSO"),
            (format!("{feature}credentials-login. In …"), "aws login"),
        ] {
            let error = explain("s3://b/k", cause);
            assert!(error.chain().contains(why), "{}", error.chain());
            assert!(!error.chain().contains("cargo"), "{}", error.chain());
            assert!(error.advice().unwrap().contains("attach a role"));
        }
        let token = "the auth token could not be used as an HTTP header value. failed";
        assert!(explain("s3://b/k", token.into()).advice().unwrap().contains("line end"));
        let profile = "profile `ci` was not defined: x";
        assert!(explain("s3://b/k", profile.into()).advice().unwrap().contains(".aws/config"));
        assert!(explain("s3://b/k", "no".into()).advice().unwrap().contains("IMDSv2"));
    }
}
