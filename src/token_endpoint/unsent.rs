//! A request's body, until it is sent.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use zeroize::Zeroizing;

/// A request's body until the HTTP client takes it; it is wiped when it has been sent. Taken back, it is never sent: an HTTP/2
/// client may keep a request in its queue that we no longer await.
#[derive(Default)]
pub(super) struct Unsent(Arc<Mutex<Option<Zeroizing<Vec<u8>>>>>);

impl Unsent {
    pub(super) fn body(&self, bytes: Zeroizing<Vec<u8>>) -> Tracked {
        let length = bytes.len() as u64;
        *self.bytes() = Some(bytes);
        Tracked { unsent: Self(Arc::clone(&self.0)), left: length }
    }

    /// Whether nothing of it was sent, nor will be.
    pub(super) fn take_back(&self) -> bool {
        self.bytes().take().is_some()
    }

    fn bytes(&self) -> MutexGuard<'_, Option<Zeroizing<Vec<u8>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Tracked {
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
