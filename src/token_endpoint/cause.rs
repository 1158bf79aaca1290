//! Why an HTTP client has failed.

use std::error::Error as StdError;
use std::io;

/// Why there was no connection, in the words of the operating system, the TLS library or a proxy; never later words,
/// which may be the provider's.
pub(super) fn reason(error: &reqwest::Error) -> String {
    let io = |cause: &(dyn StdError + 'static)| cause.downcast_ref::<io::Error>().map(io::Error::kind);
    let is_no_http = causes(error).filter_map(<dyn StdError>::downcast_ref::<hyper::Error>).any(hyper::Error::is_parse);
    match causes(error).last() {
        Some(cause) if error.is_connect() => cause.to_string(),
        _ if is_no_http => "the answer is not HTTP, or its headers are too long".to_owned(),
        _ => match causes(error).filter_map(io).last() {
            None | Some(io::ErrorKind::UnexpectedEof) => "the connection was closed".to_owned(),
            Some(kind) => kind.to_string(),
        },
    }
}

/// Whether an HTTP/2 server has said that it will not look at the request, and has not: by `REFUSED_STREAM`, or by a `GOAWAY`
/// that is for the request's stream as well (RFC 9113 §8.7). h2 fails a stream by a server's `GOAWAY` only in this case; one
/// that the server may still answer fails by what becomes of the connection.
pub(super) fn is_unprocessed(error: &reqwest::Error) -> bool {
    causes(error).filter_map(<dyn StdError>::downcast_ref::<h2::Error>).any(|error| {
        error.is_remote()
            && (error.is_go_away() || error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}

/// An error's causes, from the outermost.
pub(super) fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(StdError::source(error), |error| match error.downcast_ref::<io::Error>() {
        // An I/O error does not tell what it wraps by `source`.
        Some(io) => io.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
        None => (**error).source(),
    })
}
