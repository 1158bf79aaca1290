//! The HTTP client: one request per call, and whether it was sent.

use super::answer::{MAX_ANSWER_BYTES, NewFields, Response};
use super::cause::{causes, is_unprocessed, reason};
use super::coding::{Undecodable, decode};
use super::trust::{ExtraRoots, is_of_authority};
use super::unsent::Unsent;
use super::{Exchange, Failure, TokenEndpoint, is_loopback};
use crate::clock::Clock;
use crate::credential::Credential;
use crate::error::{Code, Error};
use crate::failure::FailureClass;
use http_body::Body;
use reqwest::header::{CONTENT_ENCODING, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Method, NoProxy, Proxy, RequestBuilder, Version, redirect, retry};
use rustls::crypto::ring;
use rustls::{CertificateError, ClientConfig};
use std::collections::HashMap;
use std::error::Error as StdError;
use std::future::poll_fn;
use std::ops::Range;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use zeroize::Zeroizing;

/// A connection that waits for its next request is closed after so long. A longer one is more likely to be closed by the
/// server just when a request is on its way, and then we can't know whether that was read.
const IDLE: Duration = Duration::from_secs(1);
/// So many networks are remembered: there is hardly ever more than one.
const MAX_CLIENTS: usize = 8;
/// Gateways and identity providers send long ones: policies, cookies, traces. hyper reads up to 400 KiB of them by HTTP/1.1.
const MAX_HEADER_LINES: usize = 1_000;
const MAX_HTTP2_HEADER_BYTES: u32 = 400 << 10;

/// How to reach a provider. No `Debug`: a proxy's URL may hold its password.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Network {
    /// `HTTPS_PROXY`, else `ALL_PROXY`.
    pub proxy: Option<String>,
    /// `NO_PROXY`.
    pub no_proxy: Option<String>,
    /// PEM files, and directories of such, of roots that are trusted besides Mozilla's: `NODE_EXTRA_CA_CERTS`,
    /// `SSL_CERT_FILE`, `SSL_CERT_DIR`.
    pub extra_roots: Vec<PathBuf>,
    /// Whether the system's roots are trusted as well: `--use-system-ca`, `NODE_USE_SYSTEM_CA`.
    pub has_system_roots: bool,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
}

/// A client with its own connections. Cheap to clone.
#[derive(Clone)]
pub struct HttpClient {
    direct: Client,
    /// The same without a proxy, if there is one.
    proxied: Client,
    /// Files and directories that no root could be read from.
    unreadable: Arc<[PathBuf]>,
}

impl HttpClient {
    /// The client for a network; the same one for the same network, so that connections are used again.
    pub fn shared(network: &Network) -> Result<Self, Failure> {
        static CLIENTS: Mutex<Option<HashMap<Network, HttpClient>>> = Mutex::new(None);
        let clients = || CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients().as_ref().and_then(|clients| clients.get(network)) {
            return Ok(client.clone());
        }
        // Not while others wait: it reads files.
        let client = Self::new(network)?;
        // One whose files could not be read may find them next time.
        if client.unreadable.is_empty() {
            let mut clients = clients();
            let clients = clients.get_or_insert_default();
            if clients.len() >= MAX_CLIENTS {
                clients.clear();
            }
            clients.insert(network.clone(), client.clone());
        }
        Ok(client)
    }

    fn new(network: &Network) -> Result<Self, Failure> {
        let mut roots = ExtraRoots::read(&network.extra_roots, network.has_system_roots);
        let unreadable = std::mem::take(&mut roots.unreadable);
        let provider = Arc::new(ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|_| defect())?
            .dangerous()
            .with_custom_certificate_verifier(roots.verifier(provider).ok_or_else(defect)?)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let builder = || {
            Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .connect_timeout(network.connect_timeout)
                .pool_idle_timeout(IDLE)
                .http1_max_headers(MAX_HEADER_LINES)
                .http2_max_header_list_size(MAX_HTTP2_HEADER_BYTES)
                .redirect(redirect::Policy::none())
                .retry(retry::never())
                .referer(false)
                .no_proxy()
        };
        let direct = builder().build().map_err(|_| defect())?;
        let proxied = match &network.proxy {
            None => direct.clone(),
            Some(proxy) => {
                let unusable = || {
                    let message = "HTTPS_PROXY (or ALL_PROXY) is not the URL of an HTTP proxy";
                    Failure::not_sent(Code::ProviderUnreachable, message, false)
                };
                let is_other = |scheme: &str| !matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https");
                if proxy.split_once("://").is_some_and(|(scheme, _)| is_other(scheme)) {
                    return Err(unusable());
                }
                let proxy = Proxy::all(proxy.as_str()).map_err(|_| unusable())?;
                let except = network.no_proxy.as_deref().and_then(NoProxy::from_string);
                builder().proxy(proxy.no_proxy(except)).build().map_err(|_| defect())?
            }
        };
        Ok(Self { direct, proxied, unreadable: unreadable.into() })
    }

    /// Asks for a new access token, once. `limit` is that of the whole call; `cancel` ends it before.
    pub async fn exchange(
        &self,
        endpoint: &TokenEndpoint,
        credential: &Credential,
        clock: &dyn Clock,
        limit: Duration,
        cancel: &Notify,
    ) -> Result<NewFields, Failure> {
        let refresh_token = credential.refresh().ok_or_else(|| {
            let message = "the credential has no refresh token; log in again";
            Failure::not_sent(Code::ProviderRefused, message, false)
        })?;
        let url = endpoint.url_for(credential)?;
        let client = if is_loopback(&url) { &self.direct } else { &self.proxied };
        let unsent = Unsent::default();
        let mut request = match endpoint.spec.exchange {
            Exchange::GithubCopilot => client.get(url.clone()),
            Exchange::RefreshToken => {
                let body = unsent.body(endpoint.body(refresh_token));
                client.request(Method::POST, url.clone()).body(reqwest::Body::wrap(body))
            }
        };
        request = request.headers(endpoint.headers.clone());
        if let Some(authorization) = endpoint.authorization(refresh_token)? {
            request = request.header(reqwest::header::AUTHORIZATION, authorization);
        }
        let asked_ms = clock.now_ms();
        let mut answer = None;
        let end = tokio::select! {
            end = ask(request, &mut answer) => end.unwrap_or_else(End::Broken),
            () = tokio::time::sleep(limit) => End::Late(limit),
            () = cancel.notified() => End::Cancelled,
        };
        if let Some(received) = answer {
            return read(endpoint, credential, asked_ms..clock.now_ms(), received, &end);
        }
        let was_sent = match (endpoint.spec.exchange, &end) {
            (_, End::Broken(error)) if is_unprocessed(error) => false,
            (Exchange::RefreshToken, _) => !unsent.take_back(),
            (Exchange::GithubCopilot, End::Broken(error)) => !error.is_connect(),
            (Exchange::GithubCopilot, _) => true,
        };
        let host = url.host_str().unwrap_or_default();
        Err(if was_sent { lost(endpoint, host, None, &end) } else { self.not_sent(host, &end) })
    }

    /// The failure where nothing was sent, or nothing that the server has looked at.
    fn not_sent(&self, host: &str, end: &End) -> Failure {
        let tls = match end {
            End::Broken(error) => causes(error).find_map(<dyn StdError>::downcast_ref::<rustls::Error>),
            _ => None,
        };
        let what = match end {
            End::Late(limit) => format!("was not reached within {} s", limit.as_secs_f64()),
            End::Cancelled => "was not reached before the call was aborted".to_owned(),
            End::Broken(error) if is_unprocessed(error) => {
                let message = format!("{host} refused the request without looking at it; the login is as it was");
                return Failure::not_sent(Code::ProviderUnreachable, message, true);
            }
            End::Broken(_) if tls.is_some_and(is_of_authority) => {
                "was not reached (its certificate is a CA's own, which is not trusted)".to_owned()
            }
            End::Broken(error) => format!("was not reached ({})", reason(error)),
            End::Whole | End::TooLarge | End::Reset => "was not reached".to_owned(),
        };
        let advice = match (tls, &*self.unreadable) {
            (Some(_), [first, ..]) => format!("; no certificate could be read from {}", first.display()),
            (Some(tls), []) if is_of_unknown_issuer(tls) || is_of_authority(tls) => {
                "; if you trust this server, name its root certificate's file in NODE_EXTRA_CA_CERTS".to_owned()
            }
            _ => String::new(),
        };
        let message = format!("{host} {what}; nothing was sent, and the login is as it was{advice}");
        Failure::not_sent(Code::ProviderUnreachable, message, tls.is_none())
    }
}

fn is_of_unknown_issuer(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))
}

/// Reads what came of an answer.
fn read(
    endpoint: &TokenEndpoint,
    credential: &Credential,
    call: Range<f64>,
    received: Received,
    end: &End,
) -> Result<NewFields, Failure> {
    let Received { mut answer, codings } = received;
    answer.is_whole = matches!(end, End::Whole);
    let undecodable = match decode(&codings, &answer.body) {
        Ok(decoded) => {
            answer.is_whole &= decoded.is_whole;
            answer.body = decoded.body;
            None
        }
        // As it is, it may be a form, and its status tells something all the same.
        Err(undecodable) => Some(undecodable),
    };
    endpoint.read(credential, call, &answer).map_err(|mut failure| {
        let host = endpoint.host_for(credential);
        match (failure.error.code, undecodable) {
            (Code::ProviderAnswerLost, _) => return lost(endpoint, &host, Some(answer.status), end),
            (Code::ProviderAnswerInvalid, Some(undecodable)) => {
                let why = match undecodable {
                    Undecodable::Unknown => "in an unknown content coding",
                    Undecodable::Damaged => "that can't be decoded",
                };
                let (status, then) = (answer.status, TokenEndpoint::then(failure.class));
                failure.error.message = format!("{host} answered with status {status} and a body {why}; {then}");
            }
            _ => {}
        }
        failure
    })
}

/// The failure where the request was sent, but no answer came, or only some of it.
fn lost(endpoint: &TokenEndpoint, host: &str, status: Option<u16>, end: &End) -> Failure {
    let code = if matches!(end, End::Late(_)) { Code::RefreshCallTimeout } else { Code::ProviderAnswerLost };
    let what = match (end, status) {
        (End::Late(limit), None) => format!("{host} did not answer within {} s", limit.as_secs_f64()),
        (End::Late(limit), Some(status)) => {
            format!("{host} answered with status {status}, and nothing more came within {} s", limit.as_secs_f64())
        }
        (End::Cancelled, _) => format!("the call was aborted before {host} had answered"),
        (End::TooLarge, _) => format!("{host} answered with more than {MAX_ANSWER_BYTES} bytes"),
        (End::Broken(error), None) => {
            format!("the request was sent to {host}, and no answer could be read ({})", reason(error))
        }
        (End::Broken(error), Some(status)) => {
            format!("{host} answered with status {status}, and the rest was lost ({})", reason(error))
        }
        (End::Whole | End::Reset, _) => format!("{host} answered with an incomplete body"),
    };
    let class = endpoint.class_of(FailureClass::Uncertain);
    let error = Error::new(code, format!("{what}; {}", TokenEndpoint::then(class)));
    // We stopped reading, and that says more than a status.
    let status = status.filter(|_| !matches!(end, End::Late(_) | End::Cancelled));
    Failure::after(error, class, status)
}

/// How a call ended.
enum End {
    Whole,
    TooLarge,
    /// An HTTP/2 stream, by the server.
    Reset,
    Broken(reqwest::Error),
    Late(Duration),
    Cancelled,
}

/// An answer with its body as it is coded.
struct Received {
    answer: Response,
    codings: String,
}

/// Sends a request and reads the answer, to its end or up to [`MAX_ANSWER_BYTES`]. What has come stays in `received`, whatever
/// happens next.
async fn ask(request: RequestBuilder, received: &mut Option<Received>) -> reqwest::Result<End> {
    let response = request.send().await?;
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    // Room for all, so that no copy is left behind by growing.
    let body = Zeroizing::new(Vec::with_capacity(MAX_ANSWER_BYTES));
    let answer = Response { status: response.status().as_u16(), retry_after, body, is_whole: false };
    let Received { answer, .. } = received.insert(Received { answer, codings: codings(response.headers()) });
    let is_http2 = response.version() == Version::HTTP_2;
    let mut body = reqwest::Body::from(response);
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(chunk) = frame?.into_data() else { continue };
        if answer.body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Ok(End::TooLarge);
        }
        answer.body.extend_from_slice(&chunk);
    }
    // hyper takes a stream that the server resets with NO_ERROR for one that is over.
    Ok(if is_http2 && !body.is_end_stream() { End::Reset } else { End::Whole })
}

/// What all lines of `Content-Encoding` list.
fn codings(headers: &HeaderMap) -> String {
    let lines: Vec<_> = headers.get_all(CONTENT_ENCODING).iter().filter_map(|line| line.to_str().ok()).collect();
    lines.join(",")
}

fn defect() -> Failure {
    Failure::not_sent(Code::Internal, "a defect in oauth-refresh-lock: can't make an HTTP client", false)
}
