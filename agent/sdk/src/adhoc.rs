//! Counts whose tenant and dimensions are known only at the moment of counting.
//!
//! A [`CallSite`] stands for one place in the program that names its dimensions once. What its
//! values led to is remembered by thread ([`recent`](crate::recent)), hashed over the values in
//! the order given and compared byte by byte: a hit costs a hash and a comparison, then an
//! ordinary add. What is not remembered is sorted, checked and looked up by its key.

use tollgate_common::Aggregation;

use crate::meter::{Meter, drop_events};
use crate::page::ADD_MAX;
use crate::recent::Named;
use crate::series::{Series, key};
use crate::{kinds, local};

/// One place in a program that counts with dimensions of the moment; see
/// [`count!`](crate::count).
#[derive(Debug)]
pub struct CallSite {
    keys: &'static [&'static str],
}

impl CallSite {
    /// A place that names these dimensions.
    #[must_use]
    pub const fn new(keys: &'static [&'static str]) -> Self {
        Self { keys }
    }

    fn names(&self) -> usize {
        self.keys.as_ptr().addr()
    }

    /// Adds `n` for a tenant, with one value for each dimension.
    ///
    /// Names that no series can have, and counts without room, are dropped and noted
    /// ([`dropped`](crate::dropped)).
    #[inline]
    pub fn count<const N: usize>(&self, meter: &Meter, tenant: &str, values: [&str; N], n: u64) {
        let named = Named {
            names: self.names(),
            meter: meter.identity(),
            tenant,
            values: &values,
        };
        match local::remembered(&named, n) {
            Some(cell) => kinds::add(cell, n),
            None => self.count_new(meter, &named, n),
        }
    }

    #[cold]
    #[inline(never)]
    fn count_new<const N: usize>(&self, meter: &Meter, named: &Named<'_, N>, n: u64) {
        if n > ADD_MAX || N != self.keys.len() {
            return drop_events(1);
        }
        let pairs = self.keys.iter().copied().zip(named.values.iter().copied());
        let Ok(key) = key(named.tenant, meter.name(), pairs) else {
            return drop_events(1);
        };
        let series = Series::unnumbered(key, Aggregation::Sum, meter.scale());
        let counted = match local::place(&series) {
            Some(at) => {
                local::remember(named, at);
                local::cell_at(at).map(|cell| kinds::add(cell, n)).is_some()
            }
            None => local::count_slowly(&series, &mut |cell| kinds::add_to(cell, n)),
        };
        if !counted {
            drop_events(1);
        }
    }
}

/// Counts with dimensions of the moment: `count!(meter, tenant, n, "region" => region, …)`.
///
/// The names are texts of the program, tenant and values anything that is `AsRef<str>`. Not for
/// signal handlers, like everything that counts.
///
/// ```
/// let meter = tollgate::Meter::new("http.requests")?;
/// let region = String::from("eu");
/// tollgate::count!(meter, "acme", 1, "region" => region, "method" => "GET");
/// # Ok::<(), tollgate::Invalid>(())
/// ```
#[macro_export]
macro_rules! count {
    ($meter:expr, $tenant:expr, $n:expr $(, $key:literal => $value:expr)* $(,)?) => {{
        static SITE: $crate::CallSite = $crate::CallSite::new(&[$($key),*]);
        SITE.count(
            &$meter,
            ::core::convert::AsRef::<str>::as_ref(&$tenant),
            [$(::core::convert::AsRef::<str>::as_ref(&$value)),*],
            $n,
        )
    }};
}
