//! Threshold invoices: the fold books what has reached a tenant's threshold, and here its invoice is
//! issued, by the issuer that bills the tenant.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tollgate_common::TenantId;

use super::service::Service;

/// How often it is asked who has reached the threshold.
const EVERY: Duration = Duration::from_secs(1);
/// How long it takes until an invoice that was refused is tried again.
const AGAIN: Duration = Duration::from_mins(5);

/// Issues threshold invoices until the collector stops.
pub(super) async fn serve(service: Arc<Service>, mut stop: watch::Receiver<bool>) {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut refused: BTreeMap<TenantId, Instant> = BTreeMap::new();
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            _ = tick.tick() => {}
        }
        refused.retain(|_, since| since.elapsed() < AGAIN);
        let skip = |tenant: &TenantId| refused.contains_key(tenant);
        let now = service.books.bill_thresholds(skip).await;
        for (tenant, reason) in now {
            tracing::warn!(%tenant, reason, "no threshold invoice: what is booked waits");
            refused.insert(tenant, Instant::now());
        }
    }
}
