//! DescribeAlarms of CloudWatch: a signed form, and an answer in XML. One call is no reason for
//! another SDK, which brings 14 crates of its own.

use super::api::{Alarm, Answer, Fault, Kind};
use super::fault::{kind, unusable};
use crate::objects::chain;
use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_s3::primitives::SdkBody;
use aws_sdk_ssm::config::http::{HttpRequest, HttpResponse};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_xml::decode::{Document, ScopedDecoder, XmlDecodeError, try_data};
use form_urlencoded::Serializer;
use http_body_util::{BodyExt, Limited};
use std::error::Error as StdError;
use std::time::{Duration, SystemTime};
use tokio::time::timeout;

const SERVICE: &str = "monitoring";
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
/// The limits of an answer, in bytes and time.
const LONGEST: usize = 4 << 20;
const ANSWER: Duration = Duration::from_secs(30);

type Unsent = Box<dyn StdError + Send + Sync>;

/// CloudWatch in a region.
pub struct CloudWatch {
    config: SdkConfig,
    url: String,
    region: String,
}

impl CloudWatch {
    pub fn new(config: &SdkConfig) -> CloudWatch {
        let region = config.region().map(|region| region.to_string()).unwrap_or_default();
        let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
        let own = std::env::var("AWS_ENDPOINT_URL_CLOUDWATCH").ok();
        let url = own.or_else(|| config.endpoint_url().map(str::to_owned));
        let url =
            url.unwrap_or_else(|| format!("https://{SERVICE}.{region}.amazonaws.com{suffix}/"));
        CloudWatch { config: config.clone(), url, region }
    }

    /// Returns the alarms of these names that there are.
    pub async fn alarms(&self, names: &[String]) -> Answer<Vec<Alarm>> {
        let request = self.signed(form(names), self.keys().await?).map_err(unusable)?;
        let connector = Connector::builder()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .proxy_config(ProxyConfig::from_env())
            .build();
        let lost = |why: String| Fault { kind: Kind::Unanswered, why };
        let answer = async {
            let response = connector.call(request).await.map_err(|e| lost(chain(&e)))?;
            read(response).await.map_err(|e| lost(chain(e.as_ref())))
        };
        let late = || lost(format!("no answer within {}s", ANSWER.as_secs()));
        let (status, body) = timeout(ANSWER, answer).await.map_err(|_| late())??;
        let text = String::from_utf8_lossy(&body);
        if status != 200 {
            return Err(refusal(&text, status));
        }
        parsed(&text).map_err(unusable)
    }

    async fn keys(&self) -> Answer<Credentials> {
        let missing = |why: String| Fault { kind: Kind::NoCredentials, why };
        let provider = self.config.credentials_provider();
        let provider = provider.ok_or_else(|| missing("no credentials are set".to_owned()))?;
        provider.provide_credentials().await.map_err(|e| missing(chain(&e)))
    }

    /// Builds the request, with its signature in the headers.
    fn signed(&self, body: String, keys: Credentials) -> Result<HttpRequest, Unsent> {
        let identity = keys.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(SERVICE)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()?
            .into();
        let agent = concat!("ship/", env!("CARGO_PKG_VERSION"));
        let bytes = SignableBody::Bytes(body.as_bytes());
        let headers = [("content-type", FORM)].into_iter();
        let signable = SignableRequest::new("POST", &self.url, headers, bytes)?;
        let (instructions, _) = sign(signable, &params)?.into_parts();
        let mut request = HttpRequest::new(SdkBody::from(body));
        request.set_method("POST")?;
        request.set_uri(self.url.as_str())?;
        for (name, value) in [("content-type", FORM), ("user-agent", agent)] {
            request.headers_mut().try_insert(name, value)?;
        }
        for (name, value) in instructions.headers() {
            request.headers_mut().try_insert(name.to_owned(), value.to_owned())?;
        }
        Ok(request)
    }
}

fn form(names: &[String]) -> String {
    let mut form = Serializer::new(String::new());
    form.append_pair("Action", "DescribeAlarms").append_pair("Version", "2010-08-01");
    for (n, kind) in ["MetricAlarm", "CompositeAlarm"].into_iter().enumerate() {
        form.append_pair(&format!("AlarmTypes.member.{}", n + 1), kind);
    }
    for (n, name) in names.iter().enumerate() {
        form.append_pair(&format!("AlarmNames.member.{}", n + 1), name);
    }
    form.append_pair("MaxRecords", "100").finish()
}

async fn read(response: HttpResponse) -> Result<(u16, Vec<u8>), Unsent> {
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), LONGEST).collect().await?.to_bytes();
    Ok((status, body.to_vec()))
}

/// Reads `<DescribeAlarmsResponse><DescribeAlarmsResult><MetricAlarms><member>…`.
fn parsed(xml: &str) -> Result<Vec<Alarm>, XmlDecodeError> {
    let mut alarms = Vec::new();
    let mut document = Document::new(xml);
    let mut response = document.root_element()?;
    while let Some(mut result) = response.next_tag() {
        while let Some(mut list) = result.next_tag() {
            if !["MetricAlarms", "CompositeAlarms"].contains(&list.start_el().local()) {
                continue;
            }
            while let Some(mut member) = list.next_tag() {
                alarms.push(alarm(&mut member)?);
            }
        }
    }
    Ok(alarms)
}

fn alarm(member: &mut ScopedDecoder<'_, '_>) -> Result<Alarm, XmlDecodeError> {
    let mut alarm = Alarm { name: String::new(), state: String::new(), reason: None };
    while let Some(mut field) = member.next_tag() {
        match field.start_el().local() {
            "AlarmName" => alarm.name = try_data(&mut field)?.into_owned(),
            "StateValue" => alarm.state = try_data(&mut field)?.into_owned(),
            "StateReason" => alarm.reason = Some(try_data(&mut field)?.into_owned()),
            _ => {}
        }
    }
    Ok(alarm)
}

/// Reads `<ErrorResponse><Error><Code>…`.
fn refusal(xml: &str, status: u16) -> Fault {
    let (mut code, mut message) = (String::new(), None);
    let mut document = Document::new(xml);
    if let Ok(mut response) = document.root_element() {
        while let Some(mut error) = response.next_tag() {
            while let Some(mut field) = error.next_tag() {
                match field.start_el().local() {
                    "Code" => code = try_data(&mut field).unwrap_or_default().into_owned(),
                    "Message" => message = try_data(&mut field).ok().map(|it| it.into_owned()),
                    _ => {}
                }
            }
        }
    }
    let why = match message {
        Some(message) => format!("{code}: {message}"),
        None => format!("HTTP status {status}"),
    };
    Fault { kind: kind(&code, status), why: model::text::line(&why, 300) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_alarms_are_read() {
        let alarms = parsed(
            "<DescribeAlarmsResponse><DescribeAlarmsResult><MetricAlarms><member>\
             <AlarmName>a&amp;b</AlarmName><Dimensions><member><Name>x</Name></member></Dimensions>\
             <StateValue>ALARM</StateValue><StateReason>5 &gt; 4</StateReason></member>\
             </MetricAlarms><CompositeAlarms><member><AlarmName>c</AlarmName>\
             <StateValue>OK</StateValue></member></CompositeAlarms></DescribeAlarmsResult>\
             <ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></DescribeAlarmsResponse>",
        );
        let alarms = alarms.unwrap();
        assert_eq!(alarms.len(), 2);
        assert_eq!((alarms[0].name.as_str(), alarms[0].state.as_str()), ("a&b", "ALARM"));
        assert_eq!(alarms[0].reason.as_deref(), Some("5 > 4"));
        assert_eq!((alarms[1].name.as_str(), alarms[1].state.as_str()), ("c", "OK"));
        assert!(parsed("<html").is_err());
    }

    #[test]
    fn a_refusal_has_its_kind() {
        let xml = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>\
                   <Message>not authorized</Message></Error></ErrorResponse>";
        let fault = refusal(xml, 403);
        assert_eq!(
            (fault.kind, fault.why.as_str()),
            (Kind::Denied, "AccessDenied: not authorized")
        );
        assert_eq!(refusal("<html>", 503).kind, Kind::Unanswered);
    }

    #[test]
    fn names_are_encoded() {
        let form = form(&["a & ü".to_owned()]);
        assert!(form.contains("&AlarmNames.member.1=a+%26+%C3%BC&"), "{form}");
    }
}
