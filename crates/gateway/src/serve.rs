//! Accepting connections: HTTP/1.1 and h2c on one port, drained on request.

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Gateway;

/// Serves `gateway` on `listener` until `stop`, then drains within the configured time.
///
/// # Errors
/// Only what makes accepting impossible.
pub async fn serve(gateway: Gateway, listener: TcpListener, stop: CancellationToken) -> std::io::Result<()> {
    let _ = (gateway, listener, stop);
    todo!()
}
