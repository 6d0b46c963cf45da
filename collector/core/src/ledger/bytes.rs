//! The bytes of an entry that are hashed: its canonical JSON.
//!
//! They are what `serde_json` makes of the same fields in the same order, which a test holds them
//! to. A month that is rated anew books millions of entries, and going through a serialiser for
//! each of thirty fields would be most of what an entry takes.

use chrono::{Datelike, NaiveDate};
use rust_decimal::Decimal;
use serde::Serialize;
use tollgate_common::Timestamp;

use super::{Account, Certainty, EntryRef, Leg, Posting};
use crate::digits::{self, Digits};
use crate::entry::Digest;
use crate::hex;

/// Writes the canonical JSON of an entry without its hash.
pub(super) fn write(
    (at, posted): (EntryRef, Timestamp),
    posting: &Posting,
    previous: Digest,
    out: &mut Vec<u8>,
) {
    let mut json = Json(out);
    json.raw("{\"at\":");
    json.entry(at);
    json.raw(",\"posted\":");
    json.time(posted);
    json.raw(",\"posting\":{\"kind\":\"");
    json.posting(posting);
    json.raw("},\"previous\":");
    json.hex(&previous.0);
    json.raw("}");
}

struct Json<'o>(&'o mut Vec<u8>);

impl Json<'_> {
    /// Everything behind the quote before its kind.
    #[expect(clippy::too_many_lines, reason = "one field after the other")]
    fn posting(&mut self, posting: &Posting) {
        // Whoever adds a field has to say here where it stands.
        let Posting {
            kind,
            role,
            tenant,
            payer,
            start,
            end,
            date,
            line,
            meter,
            quantity,
            scale,
            aggregation,
            certainty,
            amount,
            currency,
            original,
            tax,
            list,
            steps,
            legs,
            catalogs,
            usage,
            arithmetic,
            refers_to,
            document,
            note,
            agent,
            incarnation,
            sequences,
            journal_from,
            journal_to,
        } = posting;
        self.raw(kind.as_str());
        self.raw("\"");
        self.some(",\"role\":", role.as_ref(), |json, role| {
            json.name(role.as_str());
        });
        self.raw(",\"tenant\":");
        self.or_null(tenant.as_ref(), |json, tenant| json.name(tenant.as_str()));
        self.some(",\"payer\":", payer.as_ref(), |json, payer| {
            json.name(payer.as_str());
        });
        self.raw(",\"start\":");
        self.time(*start);
        self.raw(",\"end\":");
        self.time(*end);
        self.some(",\"date\":", date.as_ref(), |json, date| json.date(*date));
        self.raw(",\"line\":");
        self.text(line);
        self.raw(",\"meter\":");
        self.or_null(meter.as_ref(), |json, meter| json.name(meter.as_str()));
        self.raw(",\"quantity\":\"");
        self.signed(quantity.units());
        self.raw("\",\"scale\":");
        self.number(scale.get().into());
        self.some(",\"aggregation\":", aggregation.as_ref(), |json, how| {
            json.name(how.as_str());
        });
        self.raw(",\"certainty\":");
        self.name(match certainty {
            Certainty::Exact => "exact",
            Certainty::AtMost => "at_most",
            Certainty::Unknown => "unknown",
        });
        self.raw(",\"amount\":");
        self.or_null(amount.as_ref(), |json, amount| json.decimal(*amount));
        self.raw(",\"currency\":");
        self.or_null(currency.as_ref(), |json, currency| json.text(currency));
        self.some(",\"original\":", original.as_ref(), Self::value);
        self.some(",\"tax\":", tax.as_ref(), Self::value);
        self.some(",\"list\":", list.as_ref(), |json, list| {
            json.decimal(*list);
        });
        self.some(",\"steps\":", unless_empty(steps), Self::value);
        self.some(",\"legs\":", unless_empty(legs), |json, legs| {
            json.each(legs, Self::leg);
        });
        self.some(
            ",\"catalogs\":",
            unless_empty(catalogs),
            |json, catalogs| {
                json.each(catalogs, |json, digest| json.hex(&digest.0));
            },
        );
        self.some(",\"usage\":", usage.as_ref(), |json, usage| {
            json.hex(&usage.0);
        });
        self.raw(",\"arithmetic\":");
        self.text(arithmetic);
        self.raw(",\"refers_to\":");
        self.or_null(refers_to.as_ref(), |json, at| json.entry(*at));
        self.some(",\"document\":", document.as_ref(), Self::value);
        self.some(",\"note\":", note.as_ref(), Self::value);
        self.raw(",\"agent\":");
        self.or_null(agent.as_ref(), |json, agent| json.name(agent.as_str()));
        self.raw(",\"incarnation\":");
        self.value(incarnation);
        self.raw(",\"sequences\":");
        self.value(sequences);
        self.raw(",\"journal_from\":");
        self.hex(journal_from.as_bytes());
        self.raw(",\"journal_to\":");
        self.hex(journal_to.as_bytes());
    }

    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// A field that is left out where there is nothing.
    fn some<T: ?Sized>(
        &mut self,
        name: &str,
        value: Option<&T>,
        write: impl FnOnce(&mut Self, &T),
    ) {
        if let Some(value) = value {
            self.raw(name);
            write(self, value);
        }
    }

    fn or_null<T>(&mut self, value: Option<&T>, write: impl FnOnce(&mut Self, &T)) {
        match value {
            Some(value) => write(self, value),
            None => self.raw("null"),
        }
    }

    fn each<T>(&mut self, all: &[T], write: impl Fn(&mut Self, &T)) {
        let mut before = "[";
        for one in all {
            self.raw(before);
            write(self, one);
            before = ",";
        }
        self.raw("]");
    }

    /// What hardly any entry has.
    fn value<T: Serialize + ?Sized>(&mut self, value: &T) {
        serde_json::to_writer(&mut *self.0, value)
            .expect("it has string keys only and memory never fails to take it");
    }

    /// A text of which it is known that nothing in it has to be escaped.
    fn name(&mut self, name: &str) {
        self.raw("\"");
        self.raw(name);
        self.raw("\"");
    }

    fn text(&mut self, text: &str) {
        if text
            .bytes()
            .any(|byte| byte < b' ' || byte == b'"' || byte == b'\\')
        {
            self.value(text);
        } else {
            self.name(text);
        }
    }

    fn time(&mut self, time: Timestamp) {
        self.signed(time.millis().into());
    }

    fn entry(&mut self, at: EntryRef) {
        self.raw("{\"partition\":");
        self.number(at.partition.into());
        self.raw(",\"index\":");
        self.number(at.index.into());
        self.raw("}");
    }

    fn hex(&mut self, bytes: &[u8]) {
        self.raw("\"");
        let done: Result<(), std::convert::Infallible> = hex::text(bytes, |text| {
            self.raw(text);
            Ok(())
        });
        let Ok(()) = done;
        self.raw("\"");
    }

    fn leg(&mut self, leg: &Leg) {
        let Leg {
            account,
            amount,
            currency,
        } = leg;
        self.raw("{\"account\":");
        match account {
            Account::Unbilled => self.raw("\"unbilled\""),
            other => self.value(other),
        }
        self.raw(",\"amount\":");
        self.decimal(*amount);
        self.raw(",\"currency\":");
        self.text(currency);
        self.raw("}");
    }

    fn date(&mut self, date: NaiveDate) {
        // Other years have a sign.
        let Ok(year @ 1000..=9999) = u128::try_from(date.year()) else {
            return self.value(&date);
        };
        self.raw("\"");
        self.number(year);
        for part in [date.month(), date.day()] {
            self.raw(if part < 10 { "-0" } else { "-" });
            self.number(part.into());
        }
        self.raw("\"");
    }

    fn decimal(&mut self, decimal: Decimal) {
        self.raw("\"");
        digits::of_decimal(decimal, |part| self.raw(part));
        self.raw("\"");
    }

    fn signed(&mut self, number: i128) {
        if number < 0 {
            self.raw("-");
        }
        self.number(number.unsigned_abs());
    }

    fn number(&mut self, number: u128) {
        self.raw(Digits::of(number).at_least(1));
    }
}

fn unless_empty<T>(all: &[T]) -> Option<&[T]> {
    (!all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tollgate_common::{
        AgentId, Aggregation, Incarnation, MeterName, Quantity, Scale, TenantId,
    };

    use super::super::{Document, EntryKind, Note, Original, Role, Step, StepKind, TaxOf};
    use super::*;
    use crate::position::Position;

    #[derive(Serialize)]
    struct Content<'a> {
        at: EntryRef,
        posted: Timestamp,
        posting: &'a Posting,
        previous: Digest,
    }

    fn decimals() -> impl Strategy<Value = Decimal> {
        let mantissa = prop_oneof![
            Just(0i128),
            -5000i128..5000,
            -79_228_162_514_264_337_593_543_950_335i128..=79_228_162_514_264_337_593_543_950_335,
        ];
        (mantissa, 0u32..=28, any::<bool>()).prop_map(|(mantissa, scale, minus)| {
            let mut decimal = Decimal::from_i128_with_scale(mantissa, scale);
            if mantissa == 0 {
                decimal.set_sign_negative(minus);
            }
            decimal
        })
    }

    /// With everything that has to be escaped, and a little that has not.
    fn texts() -> impl Strategy<Value = String> {
        prop_oneof!["[ -~]{0,12}", "[a\"\\\\\\n\\t\u{0}\u{7f}é€/]{0,6}"]
    }

    fn dates() -> impl Strategy<Value = NaiveDate> {
        let days = prop_oneof![
            -800_000i32..800_000,
            719_163i32..740_000,
            -9_000_000i32..9_000_000
        ];
        days.prop_map(|days| NaiveDate::from_num_days_from_ce_opt(days).expect("in range"))
    }

    fn accounts() -> impl Strategy<Value = Account> {
        prop_oneof![
            Just(Account::Unbilled),
            Just(Account::Grants),
            Just(Account::CreditBalance),
            texts().prop_map(Account::Revenue),
            texts().prop_map(Account::Tax),
        ]
    }

    prop_compose! {
        fn legs()(account in accounts(), amount in decimals(), currency in texts()) -> Leg {
            Leg { account, amount, currency }
        }
    }

    fn name() -> TenantId {
        TenantId::new("acme/eu-1:x@y_z.w").expect("valid")
    }

    prop_compose! {
        fn rare()(
            amount in decimals(),
            text in texts(),
            date in dates(),
            step in 0..6usize,
        ) -> (Original, TaxOf, Step, Document, Note) {
            use StepKind::{Advance, Contracted, Discount, Maximum, Minimum, Rounding};
            let kinds = [Contracted, Discount, Maximum, Minimum, Advance, Rounding];
            let step = Step { kind: kinds[step], id: text.clone(), amount };
            let document = Document {
                issuer: text.clone(),
                sequence: 7,
                number: text.clone(),
                serial: 2,
                lines: vec![1, u64::MAX],
                parts: Vec::new(),
                part_of: None,
                due: Some(date),
                seller: Some(Digest([9; 32])),
                buyer: None,
            };
            let note = Note { author: text.clone(), approved_by: None, reason: text.clone() };
            let tax = TaxOf {
                base: amount,
                percent: Decimal::from(19),
                kind: Some(text.clone()),
                note: None,
            };
            let original = Original {
                amount,
                currency: text,
                rate: Some(amount),
                rate_date: Some(date),
                with_tax: step.kind == Advance,
            };
            (original, tax, step, document, note)
        }
    }

    prop_compose! {
        fn postings()(
            kind in 0..EntryKind::ALL.len(),
            role in proptest::option::of(0..11usize),
            aggregation in proptest::option::of(0..Aggregation::ALL.len()),
            has in any::<[bool; 14]>(),
            (date, line, quantity, scale) in (dates(), texts(), any::<i128>(), 0u8..10),
            (amount, list) in (decimals(), proptest::option::of(decimals())),
            (text, legs) in (texts(), proptest::collection::vec(legs(), 0..4)),
            (certainty, (original, tax, step, document, note)) in (0..3usize, rare()),
            bytes in any::<[u8; 32]>(),
        ) -> Posting {
            use Role::{
                Advance, Commitment, CreditBalance, Drawdown, Fee, Grant, Minimum, Overage, Tax,
                TrueUp, Usage,
            };
            let roles = [
                Usage, Fee, Advance, Minimum, Commitment, Drawdown, Overage, TrueUp, Tax, Grant,
                CreditBalance,
            ];
            let [low, high] = [0, 16].map(|at| {
                let mut half = [0; 16];
                half.copy_from_slice(&bytes[at..at + 16]);
                half
            });
            let [from, to] = [low, high].map(Position::from_bytes);
            let (start, end) = (Timestamp::EPOCH, Timestamp::MAX);
            let mut posting = Posting::new(EntryKind::ALL[kind], start, end, line, to);
            posting.role = role.map(|role| roles[role]);
            posting.tenant = has[0].then(name);
            posting.payer = has[1].then(name);
            posting.date = Some(date).filter(|_| has[2]);
            let meter = MeterName::new("http.requests").expect("valid");
            posting.meter = Some(meter).filter(|_| has[3]);
            posting.quantity = Quantity::new(quantity);
            posting.scale = Scale::new(scale).expect("small");
            posting.aggregation = aggregation.map(|at| Aggregation::ALL[at]);
            posting.certainty = [Certainty::Exact, Certainty::AtMost, Certainty::Unknown][certainty];
            posting.amount = Some(amount).filter(|_| has[4]);
            posting.currency = Some(text.clone()).filter(|_| has[5]);
            posting.original = Some(Box::new(original)).filter(|_| has[6]);
            posting.tax = Some(Box::new(tax)).filter(|_| has[9]);
            posting.list = list;
            posting.steps = if has[7] { vec![step.clone(), step] } else { Vec::new() };
            posting.legs = legs;
            posting.catalogs = vec![Digest(bytes); usize::from(has[8]) + usize::from(has[9])];
            posting.usage = Some(Digest(bytes)).filter(|_| has[9]);
            posting.arithmetic = text;
            posting.refers_to = Some(EntryRef { partition: u16::MAX, index: u64::MAX });
            posting.refers_to = posting.refers_to.filter(|_| has[10]);
            posting.document = Some(Box::new(document)).filter(|_| has[11]);
            posting.note = Some(Box::new(note)).filter(|_| has[12]);
            posting.agent = Some(AgentId::new("edge-1").expect("valid")).filter(|_| has[13]);
            posting.incarnation = Some(Incarnation::from_bytes(low)).filter(|_| has[13]);
            posting.sequences = Some((1, u64::MAX)).filter(|_| has[12]);
            posting.journal_from = from;
            posting
        }
    }

    proptest! {
        #[test]
        fn the_bytes_are_what_a_serialiser_makes(
            posting in postings(),
            partition in any::<u16>(),
            index in any::<u64>(),
            millis in any::<i64>(),
        ) {
            let at = EntryRef { partition, index };
            let (posted, previous) = (Timestamp::from_millis(millis), Digest([0xa5; 32]));
            let mut bytes = Vec::new();
            write((at, posted), &posting, previous, &mut bytes);
            let content = Content { at, posted, posting: &posting, previous };
            let expected = serde_json::to_string(&content).expect("it can be written");
            prop_assert_eq!(String::from_utf8(bytes).expect("it is text"), expected);
        }
    }
}
