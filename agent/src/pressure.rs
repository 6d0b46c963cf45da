//! What the engine asks of the inputs while its spool is full.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use tollgate_agent_core::engine::Pressure;

static HOLD: AtomicBool = AtomicBool::new(false);

/// From here on the engine asks for this.
pub(crate) fn set(pressure: Pressure) {
    HOLD.store(pressure == Pressure::Hold, Relaxed);
}

/// True while inputs that can wait are to wait.
pub(crate) fn hold() -> bool {
    HOLD.load(Relaxed)
}
