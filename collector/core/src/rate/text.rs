//! The arithmetic of a line as text, for people.

use std::fmt::{self, Display as _, Write as _};

use super::around::{AmountStep, QuantityStep};
use super::line::{AmountChange, Arithmetic, LineItem};
use super::piece::Piece;
use super::tiers::TierAmount;
use super::{Basis, Ratio, metered};
use crate::catalog::{Allowance, Directions, Interval, Measure, Off};
use crate::digits::Shown;

/// Most pieces of a line that its text shows one by one.
const PIECES_SHOWN_MAX: usize = 24;

/// The arithmetic for people:
/// `2000000 x 0.40 + 1500000 x 0.25 per 1000 {request} = 800 + 375 = 1175.00 EUR`.
impl fmt::Display for LineItem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, self.arithmetic().as_ref())
    }
}

impl LineItem<'_> {
    /// The same of the arithmetic that [`LineItem::arithmetic`] worked out.
    pub(crate) fn write(
        &self,
        f: &mut fmt::Formatter<'_>,
        arithmetic: Option<&Arithmetic<'_>>,
    ) -> fmt::Result {
        let Some(arithmetic) = arithmetic else {
            return write!(f, "{} {}", self.amount, self.card.currency);
        };
        self.write_list(f, arithmetic)?;
        for change in &arithmetic.steps {
            self.write_change(f, change, arithmetic)?;
        }
        match arithmetic.steps.last() {
            None => Ok(()),
            // Behind its own amount.
            Some(last) if last.step == AmountStep::Contracted => {
                write!(f, " {}", self.card.currency)
            }
            Some(_) => write!(f, " = {} {}", self.amount, self.card.currency),
        }
    }

    /// How the list amount was computed.
    pub(crate) fn write_list(
        &self,
        f: &mut fmt::Formatter<'_>,
        arithmetic: &Arithmetic<'_>,
    ) -> fmt::Result {
        let Some(meter) = self.meter else {
            write_tiers(f, &arithmetic.tiers, &self.price.per)?;
            return self.write_amount(f, arithmetic);
        };
        if self.quantity.is_negative() {
            let shown = self.quantity.display(meter.billed_scale());
            write!(f, "{shown} is below zero and rated as 0: ")?;
        }
        match self.basis {
            Basis::Parts(_) => self.write_pieces(f, &arithmetic.pieces, Rates::Listed)?,
            Basis::Whole => {
                if let Some(metered) = metered(self.quantity, self.meter) {
                    write_quantities(f, metered, &arithmetic.quantities)?;
                }
                write_tiers(f, &arithmetic.tiers, &self.price.per)?;
            }
        }
        self.write_amount(f, arithmetic)
    }

    fn write_amount(&self, f: &mut fmt::Formatter<'_>, arithmetic: &Arithmetic<'_>) -> fmt::Result {
        // A rounded amount shows what it was rounded from.
        if Ratio::from_decimal(self.list) != arithmetic.list {
            write!(f, "{} ~ ", arithmetic.list)?;
        }
        write!(f, "{} {}", Shown(self.list), self.card.currency)
    }
}

/// The steps from the metered to the charged quantity.
fn write_quantities(
    f: &mut fmt::Formatter<'_>,
    metered: Ratio,
    steps: &[(QuantityStep<'_>, Ratio)],
) -> fmt::Result {
    if steps.is_empty() {
        return Ok(());
    }
    write!(f, "{metered}")?;
    for (step, left) in steps {
        match step {
            QuantityStep::Converted(convert) => match &convert.round {
                Some((_, mode)) if convert.factor == Ratio::ONE => {
                    write!(f, " rounded {mode} to {left}")?;
                }
                Some((step, mode)) => {
                    write!(f, " at {} for {}, rounded {mode}", convert.to, convert.from)?;
                    if step.value() != Ratio::ONE {
                        write!(f, " to {step}")?;
                    }
                    write!(f, ", is {left}")?;
                }
                None => write!(f, " at {} for {} is {left}", convert.to, convert.from)?,
            },
            QuantityStep::Included(allowance, part) => {
                f.write_str(" less ")?;
                write_part(f, allowance, *part)?;
                write!(f, " included = {left}")?;
            }
            QuantityStep::AllCharged(allowance, part) => {
                f.write_str(" is above ")?;
                write_part(f, allowance, *part)?;
                f.write_str(", so all is charged")?;
            }
            QuantityStep::Discounted(discount, by) => {
                write!(f, " less {by} {} = {left}", discount.id)?;
            }
            QuantityStep::Committed(commit) => write!(f, ", at least {commit} committed")?,
        }
    }
    f.write_str(": ")
}

/// An allowance, or what of it belongs to a part of the period.
fn write_part(f: &mut fmt::Formatter<'_>, allowance: &Allowance, part: Ratio) -> fmt::Result {
    if part != allowance.quantity.value() {
        write!(f, "{part} of ")?;
    }
    write!(f, "{}", allowance.quantity)
}

/// How much of a flat fee is due, behind it.
struct Part(Ratio);

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == Ratio::ONE {
            return Ok(());
        }
        write!(f, " x {}", self.0)
    }
}

fn write_tiers(f: &mut fmt::Formatter<'_>, tiers: &[TierAmount<'_>], per: &Measure) -> fmt::Result {
    if tiers.is_empty() {
        return f.write_str("0 = ");
    }
    let own_per = tiers.iter().any(|tier| tier.tier.per.is_some());
    for (index, tier) in tiers.iter().enumerate() {
        if index > 0 {
            f.write_str(" + ")?;
        }
        if let Some(unit) = tier.unit {
            if let Some(blocks) = tier.blocks {
                write!(f, "{} in {blocks} blocks x ", tier.quantity)?;
            } else {
                tier.quantity.fmt(f)?;
                f.write_str(" x ")?;
            }
            match tier.tier.unit {
                Some(listed) if listed != unit => write!(f, "({listed} ~ {unit})")?,
                _ => Shown(unit).fmt(f)?,
            }
            if own_per {
                write!(f, " per {}", tier.per)?;
            }
        }
        let part = Part(tier.part);
        match (tier.unit, tier.flat) {
            (Some(_), Some(flat)) => write!(f, " and {flat} flat{part}")?,
            (None, Some(flat)) => write!(f, "{flat} flat{part}")?,
            (None, None) => f.write_str("no fee")?,
            (Some(_), None) => {}
        }
        if let Some(minimum) = tier.tier.minimum.filter(|_| !tier.lifted.is_zero()) {
            write!(f, " at least {minimum}")?;
        }
    }
    if !own_per && tiers.iter().any(|tier| tier.unit.is_some()) {
        write!(f, " per {per}")?;
    }
    f.write_str(" = ")?;
    if tiers.len() > 1 {
        for (index, tier) in tiers.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { " + " })?;
            tier.exact.fmt(f)?;
            if tier.amount != tier.exact {
                write!(f, " ~ {}", tier.amount)?;
            }
        }
        f.write_str(" = ")?;
    } else if let Some(tier) = tiers.first().filter(|tier| tier.amount != tier.exact) {
        write!(f, "{} ~ ", tier.exact)?;
    }
    Ok(())
}

/// What limits and rounding of each that is priced by itself change: `10.71, with limits and rounding
/// -5.71 = `.
fn write_adjusted(f: &mut fmt::Formatter<'_>, piece: &Piece<'_>) -> fmt::Result {
    let adjusted = piece.apart.as_ref().map(|apart| apart.adjusted);
    let Some(adjusted) = adjusted.filter(|adjusted| !adjusted.is_zero()) else {
        return Ok(());
    };
    let plain = piece.amount.checked_sub(adjusted).unwrap_or(piece.amount);
    write!(f, "{plain}, with limits and rounding {adjusted} = ")
}

/// By which rates pieces were worked out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rates {
    Own,
    Listed,
}

fn write_change(f: &mut fmt::Formatter<'_>, change: &AmountChange<'_>) -> fmt::Result {
    match change.step {
        AmountStep::Contracted => f.write_str("; contracted")?,
        AmountStep::Discount(discount) => {
            write!(f, "; {}", discount.id)?;
            if let Off::Percent { percent, of_list } = &discount.off {
                let of = if *of_list { " of list" } else { "" };
                write!(f, " {percent} %{of}")?;
            }
        }
        AmountStep::Maximum(maximum) => write!(f, "; at most {maximum}")?,
        AmountStep::Minimum(minimum) => write!(f, "; at least {minimum}")?,
    }
    let sign = if change.change.is_sign_negative() || change.change.is_zero() {
        ""
    } else {
        "+"
    };
    write!(f, ": {sign}{}", change.change)
}

impl LineItem<'_> {
    /// A step; that to contracted rates with what was computed by them.
    fn write_change(
        &self,
        f: &mut fmt::Formatter<'_>,
        change: &AmountChange<'_>,
        arithmetic: &Arithmetic<'_>,
    ) -> fmt::Result {
        let own = arithmetic.contracted.as_ref();
        let Some(own) = own.filter(|_| change.step == AmountStep::Contracted) else {
            return write_change(f, change);
        };
        f.write_str("; contracted ")?;
        match self.basis {
            Basis::Parts(_) => self.write_pieces(f, &own.pieces, Rates::Own)?,
            Basis::Whole => write_tiers(f, &own.tiers, &self.price.per)?,
        }
        if Ratio::from_decimal(self.base) != own.amount {
            write!(f, "{} ~ ", own.amount)?;
        }
        write!(f, "{}", self.base)
    }

    /// The text of the step to contracted rates, for a line that is worked out elsewhere.
    pub(crate) fn write_contracted(
        &self,
        f: &mut fmt::Formatter<'_>,
        arithmetic: &Arithmetic<'_>,
    ) -> fmt::Result {
        let mut steps = arithmetic.steps.iter();
        match steps.find(|change| change.step == AmountStep::Contracted) {
            Some(change) => self.write_change(f, change, arithmetic),
            None => Ok(()),
        }
    }

    /// Each piece by itself, and then what they are together.
    fn write_pieces(
        &self,
        f: &mut fmt::Formatter<'_>,
        pieces: &[Piece<'_>],
        rates: Rates,
    ) -> fmt::Result {
        if let (Basis::Parts(parted), Some(meter)) = (self.basis, self.meter)
            && !parted.reached.is_zero()
        {
            let reached = parted.reached.display(meter.billed_scale());
            write!(f, "behind {reached} of earlier periods: ")?;
        }
        let shown = pieces.len().min(PIECES_SHOWN_MAX);
        for (index, piece) in pieces.iter().take(shown).enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            self.write_label(f, piece)?;
            self.write_ranked(f, piece)?;
            if let Some(secs) = piece.over_secs {
                let hours = secs.checked_div(Ratio::from_integer(3600).unwrap_or(Ratio::ONE));
                let hours = hours.unwrap_or(secs);
                write!(f, "{} over {hours} h: ", piece.metered)?;
            }
            write_quantities(f, piece.metered, &piece.quantities)?;
            if piece
                .apart
                .as_ref()
                .is_some_and(|apart| apart.name.is_none())
                && piece.metered != piece.charged
            {
                write!(f, "{} charged as {}: ", piece.metered, piece.charged)?;
            }
            let per = piece.row.map_or(&self.price.per, |row| &row.per);
            match piece.share {
                _ if piece.events.is_some() => self.write_events(f, piece, rates)?,
                None => write_tiers(f, &piece.tiers, per)?,
                Some(share) => {
                    f.write_char('(')?;
                    write_tiers(f, &piece.tiers, per)?;
                    let adjusted = piece.apart.as_ref().map(|apart| apart.adjusted);
                    let plain = piece.amount.checked_sub(adjusted.unwrap_or(Ratio::ZERO));
                    let list = plain.and_then(|plain| plain.checked_div(share));
                    write!(f, "{}) x {share} = ", list.unwrap_or(Ratio::ZERO))?;
                }
            }
            write_adjusted(f, piece)?;
            if pieces.len() > 1 {
                write!(f, "{}", piece.amount)?;
            }
        }
        if pieces.len() > shown {
            write!(f, "; and {} more", pieces.len() - shown)?;
        }
        match pieces.len() {
            0 => f.write_str("nothing = "),
            1 => Ok(()),
            _ => f.write_str("; in all "),
        }
    }

    /// Of which version, interval and row a piece is.
    fn write_label(&self, f: &mut fmt::Formatter<'_>, piece: &Piece<'_>) -> fmt::Result {
        let Basis::Parts(parted) = self.basis else {
            return Ok(());
        };
        let mut labels = Vec::new();
        if piece.span != parted.period {
            labels.push(format!("from {}", piece.span.start));
        }
        if let Some(begin) = piece.interval {
            let slice = parted.slices.iter().rev().find(|s| s.span.start <= begin);
            match (self.price.interval, slice) {
                (Interval::Day, Some(slice)) => labels.push(slice.zone.date_at(begin).to_string()),
                _ => labels.push(begin.to_string()),
            }
        }
        if let Some(row) = piece.row {
            labels.push(row.id.clone());
        }
        if let Some(apart) = &piece.apart {
            labels.push(match &apart.name {
                Some(values) => values.join(","),
                None => format!("{} others", apart.count),
            });
        }
        if labels.is_empty() {
            return Ok(());
        }
        write!(f, "{}: ", labels.join(" "))
    }

    /// `3 events, 1 free: 2 fees = 0.6 + 150 x 2.9 per 100 EUR = `
    fn write_events(
        &self,
        f: &mut fmt::Formatter<'_>,
        piece: &Piece<'_>,
        rates: Rates,
    ) -> fmt::Result {
        let (Some(sum), Basis::Parts(parted)) = (&piece.events, self.basis) else {
            return Ok(());
        };
        let mut own = parted.own();
        let version = own.find(|(_, slice, _, _)| slice.span == piece.span);
        let price = version.map_or(self.price, |(_, _, _, price)| price);
        let price = match rates {
            Rates::Own => price,
            Rates::Listed => price.as_listed(),
        };
        write!(f, "{} events", sum.count)?;
        if sum.free > 0 {
            write!(f, ", {} of them free", sum.free)?;
        }
        f.write_str(": ")?;
        // The row as these rates have it.
        let row = piece.row.and_then(|row| {
            let mut rows = price.matrix.iter().flat_map(|matrix| &matrix.rows);
            rows.find(|own| own.id == row.id)
        });
        let per = row.map_or(&price.per, |row| &row.per);
        let event = price.events_of(row);
        let segments = event.into_iter().flat_map(|event| &event.segments);
        let mut plus = "";
        for (segment, charged) in segments.zip(&sum.charged) {
            write!(f, "{plus}{charged} x {}", segment.unit)?;
            plus = " + ";
        }
        // The tiers that events selected by their size.
        if event.is_some_and(|event| event.by_size) {
            let model = row.map_or(&price.model, |row| &row.model);
            let used = model.tiers.iter().zip(&sum.charged);
            for (tier, charged) in used.filter(|(_, charged)| !charged.is_zero()) {
                let Some(unit) = tier.unit else { continue };
                write!(f, "{plus}{charged} x {unit}")?;
                if let Some(per) = &tier.per {
                    write!(f, " per {per}")?;
                }
                plus = " + ";
            }
        }
        for tier in &piece.tiers {
            if let Some(unit) = tier.unit {
                write!(f, "{plus}{} x {unit}", tier.quantity)?;
                plus = " + ";
            }
        }
        if !plus.is_empty() {
            write!(f, " per {per}")?;
        }
        let flats = piece.tiers.iter();
        for (flat, part) in flats.filter_map(|tier| Some((tier.flat?, Part(tier.part)))) {
            write!(f, "{plus}{flat} flat{part}")?;
            plus = " + ";
        }
        if !sum.fixed.is_zero() {
            write!(f, "{plus}{} in fees of events", sum.fixed)?;
        }
        if !sum.adjusted.is_zero() {
            write!(f, ", with limits and rounding of events {}", sum.adjusted)?;
        }
        f.write_str(" = ")
    }

    fn write_ranked(&self, f: &mut fmt::Formatter<'_>, piece: &Piece<'_>) -> fmt::Result {
        let Some(ranked) = &piece.ranked else {
            return Ok(());
        };
        let asked = self.price.percentile_of(piece.row);
        let greater = asked.is_some_and(|asked| asked.directions == Directions::Greater);
        let greater = if greater { ", the greater" } else { "" };
        write!(
            f,
            "percentile {} of {} slots of {} s",
            ranked.percent, ranked.count, ranked.slot_secs
        )?;
        if ranked.excluded > 0 {
            write!(f, " without {} that have no data", ranked.excluded)?;
        }
        write!(
            f,
            ", rank {}, {}{greater}, is {} {}: ",
            ranked.rank,
            ranked.what,
            piece.metered,
            asked.map_or(&self.price.unit, |asked| &asked.unit)
        )
    }
}
