//! Waiting for the end.

use tokio::sync::watch;

/// Returns when `stop` turns true, or nobody can turn it true any more.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
