//! The HTTP client: one request per call, and whether it was sent.

use super::answer::{Answer, MAX_ANSWER_BYTES, NewFields};
use super::{Exchange, Failure, TokenEndpoint, is_loopback};
use crate::clock::Clock;
use crate::credential::Credential;
use crate::error::{Code, Error};
use crate::failure::FailureClass;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Method, NoProxy, Proxy, RequestBuilder, Url, redirect, retry};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;
use zeroize::Zeroizing;

/// A connection that waits for its next request is closed after so long. A longer one is more likely to be closed by the
/// server just when a request is on its way, and then nobody knows whether that was read.
const IDLE: Duration = Duration::from_secs(1);
/// So many networks are remembered: there is hardly ever more than one.
const MAX_CLIENTS: usize = 8;

/// How to reach a provider. No `Debug`: a proxy's URL may hold its password.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Network {
    /// `HTTPS_PROXY`, else `ALL_PROXY`.
    pub proxy: Option<String>,
    /// `NO_PROXY`.
    pub no_proxy: Option<String>,
    /// PEM files of roots that are trusted besides Mozilla's: `NODE_EXTRA_CA_CERTS`, `SSL_CERT_FILE`.
    pub extra_roots: Vec<PathBuf>,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
}

/// A client with its own connections. Cheap to clone.
#[derive(Clone)]
pub struct HttpClient {
    direct: Client,
    /// The same without a proxy, if there is one.
    proxied: Client,
    /// Files that no root could be read from.
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
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let mut unreadable = Vec::new();
        for file in &network.extra_roots {
            let added = CertificateDer::pem_file_iter(file).map_or(0, |certificates| {
                let (added, _) = roots.add_parsable_certificates(certificates.filter_map(Result::ok));
                added
            });
            // A directory can be opened, and a file may hold anything.
            if added == 0 {
                unreadable.push(file.clone());
            }
        }
        let mut tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|_| defect())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let builder = || {
            Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .connect_timeout(network.connect_timeout)
                .pool_idle_timeout(IDLE)
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
                    let message = "HTTPS_PROXY (or ALL_PROXY) is no URL of an HTTP proxy";
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
        if let Some(mut answer) = answer {
            answer.is_whole = matches!(end, End::Whole);
            return endpoint.read(credential, asked_ms..clock.now_ms(), &answer).map_err(|failure| match end {
                // That it was us who stopped reading says more.
                End::Late(_) | End::Cancelled if failure.error.code == Code::ProviderAnswerLost => {
                    self.failed(endpoint, &url, true, &end)
                }
                _ => failure,
            });
        }
        let was_sent = match (endpoint.spec.exchange, &end) {
            (Exchange::RefreshToken, _) => !unsent.take_back(),
            (Exchange::GithubCopilot, End::Broken(error)) => !error.is_connect(),
            (Exchange::GithubCopilot, _) => true,
        };
        Err(self.failed(endpoint, &url, was_sent, &end))
    }

    /// What it means that no answer came: before the first byte of the request nothing, after it nobody knows.
    fn failed(&self, endpoint: &TokenEndpoint, url: &Url, was_sent: bool, end: &End) -> Failure {
        let host = url.host_str().unwrap_or_default();
        let (code, why) = match end {
            End::Late(limit) => (Code::RefreshCallTimeout, format!("within {} s", limit.as_secs_f64())),
            End::Cancelled => (Code::ProviderAnswerLost, "before the call was broken off".to_owned()),
            End::Broken(error) => (Code::ProviderAnswerLost, format!("({})", reason(error))),
            End::Whole | End::TooLarge => (Code::ProviderAnswerLost, String::new()),
        };
        if was_sent {
            let message = format!("{host} did not answer {why}; whether the refresh token is spent is unknown");
            let (error, class) = (Error::new(code, message), endpoint.class_of(FailureClass::Uncertain));
            return Failure { error, class, status: None, oauth_error: None, is_transient: false };
        }
        let is_tls = match end {
            End::Broken(error) => causes(error).any(<dyn std::error::Error>::is::<rustls::Error>),
            _ => false,
        };
        let unread = match &*self.unreadable {
            [first, ..] if is_tls => format!("; no certificate could be read from {}", first.display()),
            _ => String::new(),
        };
        let message = format!("{host} was not reached {why}{unread}; nothing was sent");
        Failure::not_sent(Code::ProviderUnreachable, message, !is_tls)
    }
}

/// How a call ended.
enum End {
    Whole,
    TooLarge,
    Broken(reqwest::Error),
    Late(Duration),
    Cancelled,
}

/// Sends a request and reads the answer, to its end or up to [`MAX_ANSWER_BYTES`]. What has come stays in `answer`, whatever
/// happens next.
async fn ask(request: RequestBuilder, answer: &mut Option<Answer>) -> reqwest::Result<End> {
    let mut response = request.send().await?;
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = Zeroizing::new(Vec::with_capacity(MAX_ANSWER_BYTES.min(16 << 10)));
    let answer = answer.insert(Answer { status: response.status().as_u16(), retry_after, body, is_whole: false });
    while let Some(chunk) = response.chunk().await? {
        if answer.body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Ok(End::TooLarge);
        }
        answer.body.extend_from_slice(&chunk);
    }
    Ok(End::Whole)
}

/// Why there was no connection, in the words of the operating system, the TLS library or a proxy; later on nobody's words,
/// which may be the provider's.
fn reason(error: &reqwest::Error) -> String {
    let io = |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref::<io::Error>().map(io::Error::kind);
    match causes(error).last() {
        Some(cause) if error.is_connect() => cause.to_string(),
        _ => match causes(error).filter_map(io).last() {
            Some(kind) => kind.to_string(),
            None => "the connection was closed".to_owned(),
        },
    }
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |error| match error.downcast_ref::<io::Error>() {
        // An I/O error does not tell what it wraps by `source`.
        Some(io) => io.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static)),
        None => error.source(),
    })
}

fn defect() -> Failure {
    Failure::not_sent(Code::Internal, "a defect in oauth-refresh-lock: no HTTP client could be made", false)
}

/// A request's body until the HTTP client takes it; it is wiped when it has been sent. Taken back, it is never sent: an HTTP/2
/// client may keep a request in its queue that nobody awaits any more.
#[derive(Default)]
struct Unsent(Arc<Mutex<Option<Zeroizing<Vec<u8>>>>>);

impl Unsent {
    fn body(&self, bytes: Zeroizing<Vec<u8>>) -> Tracked {
        let length = bytes.len() as u64;
        *self.bytes() = Some(bytes);
        Tracked { unsent: Self(Arc::clone(&self.0)), left: length }
    }

    /// Whether nothing of it was sent, nor will be.
    fn take_back(&self) -> bool {
        self.bytes().take().is_some()
    }

    fn bytes(&self) -> MutexGuard<'_, Option<Zeroizing<Vec<u8>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Tracked {
    unsent: Unsent,
    left: u64,
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let bytes = self.unsent.bytes().take();
        Poll::Ready(Some(match bytes {
            Some(bytes) => {
                self.left = 0;
                Ok(Frame::data(Bytes::from_owner(bytes)))
            }
            // An error and no end: an end would make a request of it, without a body.
            None => Err(io::Error::other("taken back")),
        }))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }
}
