//! The interface for C, declared in `include/tollgate.h`.
//!
//! Nothing here panics on what it is given: a null handle counts nothing, names that are no
//! UTF-8 make no handle. A handle may be used by any number of threads; it must not be used
//! after it was freed, and nothing here may be called in a signal handler.
#![expect(unsafe_code, reason = "pointers from C")]

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt::Display;
use std::ptr::{null, null_mut};
use std::time::Duration;

use crate::{Counter, Histogram, Level, Max, Meter, Options, Unique};

thread_local! {
    static LAST_ERROR: RefCell<Option<CString>> = const { RefCell::new(None) };
}

fn failed(error: impl Display) {
    let text = CString::new(error.to_string()).ok();
    // A thread that ends has no message any more.
    let _ = LAST_ERROR.try_with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            *last = text;
        }
    });
}

/// The text of a C string.
///
/// # Safety
///
/// `text` is null or points to bytes that end with a zero and live as long as `'a`.
unsafe fn text<'a>(text: *const c_char) -> Option<&'a str> {
    if text.is_null() {
        failed("a name is missing");
        return None;
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str()
        .map_err(|_| failed("a name is not UTF-8"))
        .ok()
}

/// The pairs of an array of keys and values in turn.
///
/// # Safety
///
/// `dimensions` is null or points to `2 * pairs` C strings.
unsafe fn pairs<'a>(
    dimensions: *const *const c_char,
    pairs: usize,
) -> Option<Vec<(&'a str, &'a str)>> {
    if pairs == 0 {
        return Some(Vec::new());
    }
    if dimensions.is_null() || pairs > tollgate_common::limits::DIMENSIONS_MAX {
        failed("dimensions are missing, or too many");
        return None;
    }
    // SAFETY: the caller's promise, for a number that was bounded just now.
    let texts = unsafe { std::slice::from_raw_parts(dimensions, 2 * pairs) };
    texts
        .as_chunks::<2>()
        .0
        .iter()
        // SAFETY: the caller's promise.
        .map(|&[key, value]| unsafe { Some((text(key)?, text(value)?)) })
        .collect()
}

/// A new handle, or null with the reason in [`tollgate_last_error`].
///
/// # Safety
///
/// As for [`text`] and [`pairs`].
unsafe fn handle<T>(
    tenant: *const c_char,
    meter: *const c_char,
    scale: u8,
    dimensions: *const *const c_char,
    count: usize,
    make: impl FnOnce(&Meter, &str, &[(&str, &str)]) -> Result<T, crate::Invalid>,
) -> *mut T {
    // SAFETY: the caller's promise.
    let names = unsafe { (text(tenant), text(meter), pairs(dimensions, count)) };
    let (Some(tenant), Some(meter), Some(pairs)) = names else {
        return null_mut();
    };
    let made = Meter::with_scale(meter, scale).and_then(|meter| make(&meter, tenant, &pairs));
    match made {
        Ok(handle) => Box::into_raw(Box::new(handle)),
        Err(error) => {
            failed(error);
            null_mut()
        }
    }
}

/// Settings of the process, before its first count. `socket` may be null for the default,
/// `page_bytes` 0. Without `thread`, [`tollgate_poll`] has to be called now and then. 0 if
/// they hold now, -1 if others hold already.
///
/// # Safety
///
/// `socket` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tollgate_options(
    socket: *const c_char,
    page_bytes: u64,
    thread: c_int,
) -> c_int {
    let mut options = Options::default();
    if !socket.is_null() {
        // SAFETY: the caller's promise.
        let Some(path) = (unsafe { text(socket) }) else {
            return -1;
        };
        options = options.socket(path);
    }
    if page_bytes > 0 {
        options = options.page_bytes(page_bytes);
    }
    if thread == 0 {
        options = options.without_thread();
    }
    match options.install() {
        Ok(()) => 0,
        Err(error) => {
            failed(error);
            -1
        }
    }
}

/// Events of this process that were not counted.
#[unsafe(no_mangle)]
pub extern "C" fn tollgate_dropped() -> u64 {
    crate::dropped()
}

/// Waits at most `millis` milliseconds until an agent has the page; 1 if it has, 0 otherwise.
#[unsafe(no_mangle)]
pub extern "C" fn tollgate_wait_until_handed_over(millis: u32) -> c_int {
    crate::wait_until_handed_over(Duration::from_millis(millis.into())).into()
}

/// One step of the connection, for processes without the thread; 1 if an agent has the page.
#[unsafe(no_mangle)]
pub extern "C" fn tollgate_poll() -> c_int {
    crate::poll_connection().into()
}

/// Why the last call of this thread failed; null if none did. Valid until the next failure.
#[unsafe(no_mangle)]
pub extern "C" fn tollgate_last_error() -> *const c_char {
    let text = LAST_ERROR.try_with(|last| {
        let last = last.try_borrow().ok()?;
        last.as_ref().map(|text| text.as_ptr())
    });
    text.ok().flatten().unwrap_or(null())
}

/// Makes a [`Counter`] of a meter with this scale, or null.
///
/// # Safety
///
/// Names are C strings, `dimensions` null or `2 * pairs` of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tollgate_counter_new(
    tenant: *const c_char,
    meter: *const c_char,
    scale: u8,
    dimensions: *const *const c_char,
    pairs: usize,
) -> *mut Counter {
    // SAFETY: the caller's promise.
    unsafe { handle(tenant, meter, scale, dimensions, pairs, Meter::counter) }
}

/// Frees a handle; null is allowed.
///
/// # Safety
///
/// `handle` is null or came from [`tollgate_counter_new`], and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tollgate_counter_free(handle: *mut Counter) {
    if !handle.is_null() {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(handle) });
    }
}

/// Adds `n` in one event; at most 2^56 - 1, more is dropped and noted.
///
/// # Safety
///
/// `handle` is null or came from [`tollgate_counter_new`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tollgate_counter_add(handle: *const Counter, n: u64) {
    // SAFETY: the caller's promise.
    if let Some(handle) = unsafe { handle.as_ref() } {
        handle.add(n);
    }
}

/// Makes a [`Max`] of a meter with this scale, or null.
///
/// # Safety
///
/// Names are C strings, `dimensions` null or `2 * pairs` of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tollgate_max_new(
    tenant: *const c_char,
    meter: *const c_char,
    scale: u8,
    dimensions: *const *const c_char,
    pairs: usize,
) -> *mut Max {
    // SAFETY: the caller's promise.
    unsafe { handle(tenant, meter, scale, dimensions, pairs, Meter::max) }
}

/// Frees a handle; null is allowed.
///
/// # Safety
///
/// `handle` is null or came from [`tollgate_max_new`], and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tollgate_max_free(handle: *mut Max) {
    if !handle.is_null() {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(handle) });
    }
}

/// Takes a value into account.
///
/// # Safety
///
/// `handle` is null or came from [`tollgate_max_new`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tollgate_max_record(handle: *const Max, value: i64) {
    // SAFETY: the caller's promise.
    if let Some(handle) = unsafe { handle.as_ref() } {
        handle.record(value);
    }
}

/// Makes a [`Histogram`] of a meter with this scale, or null.
///
/// # Safety
///
/// Names are C strings, `dimensions` null or `2 * pairs` of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tollgate_histogram_new(
    tenant: *const c_char,
    meter: *const c_char,
    scale: u8,
    dimensions: *const *const c_char,
    pairs: usize,
) -> *mut Histogram {
    // SAFETY: the caller's promise.
    unsafe { handle(tenant, meter, scale, dimensions, pairs, Meter::histogram) }
}

/// Frees a handle; null is allowed.
///
/// # Safety
///
/// `handle` is null or came from [`tollgate_histogram_new`], and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tollgate_histogram_free(handle: *mut Histogram) {
    if !handle.is_null() {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(handle) });
    }
}

/// Records a value, below 2^56.
///
/// # Safety
///
/// `handle` is null or came from [`tollgate_histogram_new`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tollgate_histogram_record(handle: *const Histogram, value: u64) {
    // SAFETY: the caller's promise.
    if let Some(handle) = unsafe { handle.as_ref() } {
        handle.record(value);
    }
}

/// Makes a [`Level`] of a meter with this scale, or null.
///
/// # Safety
///
/// Names are C strings, `dimensions` null or `2 * pairs` of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tollgate_level_new(
    tenant: *const c_char,
    meter: *const c_char,
    scale: u8,
    dimensions: *const *const c_char,
    pairs: usize,
) -> *mut Level {
    // SAFETY: the caller's promise.
    unsafe { handle(tenant, meter, scale, dimensions, pairs, Meter::level) }
}

/// Frees a handle; null is allowed.
///
/// # Safety
///
/// `handle` is null or came from [`tollgate_level_new`], and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tollgate_level_free(handle: *mut Level) {
    if !handle.is_null() {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(handle) });
    }
}

/// The level is `value` from now on.
///
/// # Safety
///
/// `handle` is null or came from [`tollgate_level_new`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tollgate_level_set(handle: *const Level, value: u64) {
    // SAFETY: the caller's promise.
    if let Some(handle) = unsafe { handle.as_ref() } {
        handle.set(value);
    }
}

/// The level is higher by `n` from now on.
///
/// # Safety
///
/// `handle` is null or came from [`tollgate_level_new`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tollgate_level_add(handle: *const Level, n: u64) {
    // SAFETY: the caller's promise.
    if let Some(handle) = unsafe { handle.as_ref() } {
        handle.add(n);
    }
}

/// The level is lower by `n` from now on; not below 0.
///
/// # Safety
///
/// `handle` is null or came from [`tollgate_level_new`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tollgate_level_sub(handle: *const Level, n: u64) {
    // SAFETY: the caller's promise.
    if let Some(handle) = unsafe { handle.as_ref() } {
        handle.sub(n);
    }
}

/// Makes a [`Unique`] of a meter with this scale, or null.
///
/// # Safety
///
/// Names are C strings, `dimensions` null or `2 * pairs` of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tollgate_unique_new(
    tenant: *const c_char,
    meter: *const c_char,
    scale: u8,
    dimensions: *const *const c_char,
    pairs: usize,
) -> *mut Unique {
    // SAFETY: the caller's promise.
    unsafe { handle(tenant, meter, scale, dimensions, pairs, Meter::unique) }
}

/// Frees a handle; null is allowed.
///
/// # Safety
///
/// `handle` is null or came from [`tollgate_unique_new`], and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tollgate_unique_free(handle: *mut Unique) {
    if !handle.is_null() {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(handle) });
    }
}

/// Takes `length` bytes into account as one value.
///
/// # Safety
///
/// `handle` is null or came from [`tollgate_unique_new`]; `value` points to `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tollgate_unique_insert(
    handle: *const Unique,
    value: *const u8,
    length: usize,
) {
    // SAFETY: the caller's promise.
    let Some(handle) = (unsafe { handle.as_ref() }) else {
        return;
    };
    if length == 0 {
        handle.insert([]);
    } else if !value.is_null() {
        // SAFETY: the caller's promise.
        handle.insert(unsafe { std::slice::from_raw_parts(value, length) });
    }
}
