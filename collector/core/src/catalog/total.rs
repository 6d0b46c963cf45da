//! Rounding of what is to be paid to a step such as five hundredths.

use super::measure::Amount;
use super::read::{Reader, Section};
use crate::rate::{Mode, Ratio};

/// To what the total of a bill is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TotalRounding {
    /// To multiples of this; above zero.
    pub to: Ratio,
    /// How.
    pub mode: Mode,
}

/// Reads `total` of a card.
#[expect(clippy::option_option, reason = "a mistake is not an absence")]
pub(super) fn read<'d>(
    reader: &mut Reader<'d>,
    root: &Section<'d>,
) -> Option<Option<TotalRounding>> {
    if !root.has("total") {
        return Some(None);
    }
    let table = reader.table(root, "total", "a table such as { to = \"0.05\" }")?;
    reader.only(&table, &["to", "mode"]);
    let mode = reader.or_default::<Mode>(&table, "mode", "such as \"half_up\"");
    let expected = "an amount as a decimal string such as \"0.05\"";
    let (Amount(to), field) = reader.parse::<Amount>(&table, "to", expected)?;
    if to.is_zero() {
        reader.refuse_field(
            &field,
            "nothing is a multiple of it (expected more than zero)",
        );
        return None;
    }
    Some(Some(TotalRounding {
        to: Ratio::from_decimal(to),
        mode: mode?,
    }))
}
