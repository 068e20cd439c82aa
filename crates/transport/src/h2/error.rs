//! What an `h2::Error` says about the request it hit.
//!
//! | seen | meaning | `Sent` |
//! |---|---|---|
//! | REFUSED_STREAM from the peer | not processed (RFC 9113 §8.7) | `No` |
//! | GOAWAY from the peer, on a stream | the stream is above its last-stream-id | `No` |
//! | GOAWAY of our own h2 (a protocol error of the peer) | every stream gets it | `Maybe` |
//! | HTTP_1_1_REQUIRED from the peer | to be done over HTTP/1.1 instead | `No` |
//! | any other reset | it may have run | `Maybe` |
//! | io | the connection died under the stream | `Maybe` |

use ::h2::Reason;

use crate::{Error, ErrorKind, Origin, Sent};

/// An error before the request was given to h2, or by which h2 gave it back: nothing has been written.
pub(super) fn before_sending(error: h2::Error, origin: &Origin) -> Error {
    let kind = if error.is_go_away() && error.is_remote() {
        ErrorKind::Refused
    } else if error.is_io() || error.is_go_away() {
        ErrorKind::ConnectionLost
    } else {
        ErrorKind::InvalidRequest
    };
    Error::unsent(kind, format!("the request to {origin} was not sent: {error}")).caused_by(error)
}

/// An error instead of a response head.
pub(super) fn before_head(error: h2::Error, origin: &Origin) -> Error {
    let is_refused = error.is_remote()
        && (error.is_go_away()
            || error.is_reset()
                && matches!(error.reason(), Some(Reason::REFUSED_STREAM | Reason::HTTP_1_1_REQUIRED)));
    if is_refused {
        return Error::unsent(ErrorKind::Refused, format!("{origin} refused the request: {error}"))
            .caused_by(error);
    }
    after_sending(error, format_args!("{origin} did not answer"))
}

/// An error in the middle of a response body.
pub(super) fn in_body(error: h2::Error) -> Error {
    after_sending(error, format_args!("the response body was cut short"))
}

/// Whether the peer wants HTTP/1.1 for this request.
pub(super) fn is_http1_required(error: &h2::Error) -> bool {
    error.is_remote() && error.is_reset() && error.reason() == Some(Reason::HTTP_1_1_REQUIRED)
}

fn after_sending(error: h2::Error, what: std::fmt::Arguments<'_>) -> Error {
    let kind = if error.is_io() || error.is_remote() && error.is_go_away() {
        ErrorKind::ConnectionLost
    } else if error.is_remote() && error.is_reset() {
        ErrorKind::Reset
    } else {
        ErrorKind::Protocol
    };
    Error::new(kind, Sent::Maybe, format!("{what}: {error}")).caused_by(error)
}
