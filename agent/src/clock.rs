//! The clocks of the host; the cores are told the time.
//!
//! [`steady`] began as the wall clock at the start of the process, goes on while the host
//! sleeps too, and knows no steps: everything that waits follows it. [`wall`] is what the
//! host's clock shows. [`now`] is the time that windows follow: the engine anchors it to the
//! wall clock ([`Anchor`]), and everything that is counted with a time takes that one.

use std::sync::OnceLock;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use tollgate_agent_core::engine::Anchor;
use tollgate_common::Timestamp;

/// The anchor that the engine has set last. The two are not read together: between two stores
/// a reader is off by a window at most, in the moment of a step of the clock.
static OFFSET: AtomicI64 = AtomicI64::new(0);
static FLOOR: AtomicI64 = AtomicI64::new(0);

/// The wall clock. Before 1970 it shows 1970.
pub(crate) fn wall() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Milliseconds since the host was booted, sleep included.
fn since_boot() -> i64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec
        .saturating_mul(1000)
        .saturating_add(time.tv_nsec / 1_000_000)
}

/// The steady time.
pub(crate) fn steady() -> Timestamp {
    static START: OnceLock<(Timestamp, i64)> = OnceLock::new();
    let (wall, boot) = *START.get_or_init(|| (wall(), since_boot()));
    wall.plus_millis(since_boot().saturating_sub(boot))
}

/// The time that windows follow.
pub(crate) fn now() -> Timestamp {
    let anchor = Anchor {
        offset_millis: OFFSET.load(Relaxed),
        floor: Timestamp::from_millis(FLOOR.load(Relaxed)),
    };
    anchor.time(steady())
}

/// From here on windows follow this anchor.
pub(crate) fn set_anchor(anchor: Anchor) {
    FLOOR.store(anchor.floor.millis(), Relaxed);
    OFFSET.store(anchor.offset_millis, Relaxed);
}
