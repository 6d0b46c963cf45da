//! What is rare about bills that were worked out by hand.

use tollgate_collector_core::ledger::Role;

use super::super::coverage::{Coverage, Probe};
use super::super::options::Options;
use super::bill::{Bill, Usage};
use super::versions::Slice;

/// About the stretches of a period.
pub(super) fn of_slices(usage: Option<&Usage>, slices: &[Slice], coverage: &mut Coverage) {
    let Some(usage) = usage else {
        return;
    };
    let is_used = |slice: &&Slice| {
        let mut windows = usage
            .iter()
            .filter(|((_, meter), _)| meter == "http.requests");
        let span = slice.span;
        windows.any(|(_, windows)| windows.range(span.start..span.end).next().is_some())
    };
    let used = slices.iter().filter(is_used);
    let mut prices: Vec<_> = used.filter_map(|slice| slice.tariff).collect();
    prices.dedup();
    let is_paid = slices.iter().any(|slice| slice.tariff.is_none());
    let probes = [
        (Probe::VersionInside, prices.len() > 1),
        (Probe::PayerInside, is_paid && !prices.is_empty()),
        (
            Probe::SeveralPrices,
            prices.iter().any(|tariff| tariff.routing.is_some()),
        ),
        (
            Probe::ContractedRate,
            prices.iter().any(|tariff| tariff.is_contracted),
        ),
    ];
    hit(probes, coverage);
}

/// About its lines.
pub(super) fn of_bill(bill: &Bill, options: &Options, coverage: &mut Coverage) {
    let has = |asked: Role| bill.lines.keys().any(|(role, _)| *role == asked);
    let is_of = |name: &str| bill.lines.contains_key(&(Role::Usage, name.to_owned()));
    let grant = options.around.grant.filter(|_| has(Role::Grant));
    let probes = [
        (Probe::BilledTax, has(Role::Tax)),
        (Probe::BilledMinimum, has(Role::Minimum)),
        (Probe::BilledTrueUp, has(Role::TrueUp)),
        (Probe::BilledDrawdown, has(Role::Drawdown)),
        (Probe::BilledOverage, has(Role::Overage)),
        (Probe::BilledGrant, grant.is_some()),
        (
            Probe::BilledGrantAgain,
            grant.is_some_and(|grant| grant.days.is_some()),
        ),
        (Probe::BilledPeak, is_of("peak")),
        (Probe::BilledLevel, is_of("cores")),
    ];
    hit(probes, coverage);
}

fn hit<const N: usize>(probes: [(Probe, bool); N], coverage: &mut Coverage) {
    for (probe, is) in probes {
        if is {
            coverage.hit(probe);
        }
    }
}
