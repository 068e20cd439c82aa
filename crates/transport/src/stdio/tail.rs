//! The newest bytes of a stream that nobody may ever look at.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};

/// The last bytes of a stream, at most a given number.
#[derive(Clone, Debug)]
pub(super) struct Tail {
    kept: Arc<Mutex<VecDeque<u8>>>,
    limit: usize,
}

impl Tail {
    pub(super) fn new(limit: usize) -> Self {
        Self { kept: Arc::default(), limit }
    }

    /// Reads until the end, so that the writer never blocks on a full pipe.
    pub(super) async fn fill(self, mut stream: impl AsyncRead + Unpin) {
        let mut chunk = vec![0; 4096];
        while let Ok(n_read @ 1..) = stream.read(&mut chunk).await {
            self.push(&chunk[..n_read]);
        }
    }

    pub(super) fn text(&self) -> String {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(kept.make_contiguous()).into_owned()
    }

    fn push(&self, bytes: &[u8]) {
        let newest = &bytes[bytes.len().saturating_sub(self.limit)..];
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let n_over = (kept.len() + newest.len()).saturating_sub(self.limit);
        kept.drain(..n_over);
        kept.extend(newest);
    }
}

#[cfg(test)]
mod tests;
