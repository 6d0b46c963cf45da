//! What the tests share: an agent that seals batches, and books that are kept beside.

use std::collections::BTreeMap;
use std::sync::Arc;

use tollgate_common::{
    AgentId, Aggregation, Batch, BatchHash, BatchSeq, Dimensions, Incarnation, Lineage, LossAmount,
    LossReason, MeterName, Opening, Parent, Quantity, Rollup, Scale, SeriesKey, Span, TenantId,
    Timestamp, Tombstone, Total, Window, WindowWidth,
};

use crate::effect::{AgentState, Effect};
use crate::entry::{
    Digest, Entry, Missing, Opened, ReceivedBatch, RefusedReason, Stamped, Verdicts,
};
use crate::fold::intake::{Intake, IntakeOutput, Notice, NoticeKind};
use crate::fold::{DeclaredLoss, TenantInput, partition_of};
use crate::position::Position;

pub(crate) type Account = (String, String);

pub(crate) fn agent_id() -> AgentId {
    AgentId::new("edge-1").expect("valid")
}

pub(crate) fn incarnation(n: u8) -> Incarnation {
    Incarnation::from_bytes([n; 16])
}

pub(crate) fn row(tenant: &str, meter: &str, region: &str, window: i64, value: i128) -> Rollup {
    let key = SeriesKey::new(
        TenantId::new(tenant).expect("valid"),
        MeterName::new(meter).expect("valid"),
        Dimensions::new([("region", region)]).expect("valid"),
    );
    Rollup {
        series: Arc::new(key.expect("short")),
        aggregation: Aggregation::Sum,
        scale: Scale::ZERO,
        window: Window::containing(
            Timestamp::from_secs(window * 10),
            WindowWidth::from_secs(10).expect("divides"),
        ),
        value: Quantity::new(value),
        events: u64::try_from(value).expect("not negative"),
        detail: tollgate_common::Detail::None,
    }
}

/// Seals batches of one incarnation, as an agent does.
#[derive(Clone)]
pub(crate) struct Sealer {
    pub(crate) incarnation: Incarnation,
    next: u64,
    pub(crate) last_hash: BatchHash,
    pub(crate) totals: BTreeMap<Account, i128>,
    pub(crate) parent: Option<Parent>,
    /// The batch number whose span the batches share, while they are parts of one seal.
    pub(crate) part_of: Option<u64>,
}

impl Sealer {
    pub(crate) fn new(n: u8) -> Self {
        Self {
            incarnation: incarnation(n),
            next: 1,
            last_hash: BatchHash::ZERO,
            totals: BTreeMap::new(),
            parent: None,
            part_of: None,
        }
    }

    pub(crate) fn last(&self) -> u64 {
        self.next - 1
    }

    pub(crate) fn seal(&mut self, mut rows: Vec<Rollup>, is_final: bool) -> Batch {
        rows.sort_by(|a, b| (&a.series, a.window).cmp(&(&b.series, b.window)));
        let sequence = BatchSeq::new(self.next).expect("from 1");
        let mut touched: BTreeMap<Account, i128> = BTreeMap::new();
        for row in &rows {
            let account = (
                row.series.tenant().to_string(),
                row.series.meter().to_string(),
            );
            *touched.entry(account).or_default() += row.value.units();
        }
        for (account, sum) in &touched {
            *self.totals.entry(account.clone()).or_default() += sum;
        }
        let listed = self
            .totals
            .iter()
            .filter(|(account, _)| is_final || touched.contains_key(*account));
        let total = |((tenant, meter), sum): (&Account, &i128)| Total {
            tenant: TenantId::new(tenant).expect("valid"),
            meter: MeterName::new(meter).expect("valid"),
            scale: Scale::ZERO,
            quantity: Quantity::new(*sum),
        };
        let at = |n: u64| Timestamp::from_secs(i64::try_from(n).expect("small") * 10);
        let batch = Batch {
            agent: agent_id(),
            incarnation: self.incarnation,
            sequence,
            parent_hash: self.last_hash,
            span: Span {
                from: at(self.part_of.unwrap_or(self.next) - 1),
                to: at(self.next),
            },
            watermark: at(self.next),
            opening: (sequence == BatchSeq::FIRST).then_some(Opening {
                parent: self.parent,
            }),
            is_final,
            totals: listed.map(total).collect(),
            rows,
            losses: Vec::new(),
            steps: Vec::new(),
        };
        assert_eq!(batch.validate(), Ok(()));
        self.last_hash = batch.hash();
        self.next += 1;
        batch
    }
}

/// Applies entries and keeps books of what comes out.
pub(crate) struct Books {
    pub(crate) intake: Intake,
    position: u128,
    pub(crate) stamp: Timestamp,
    pub(crate) accepted: BTreeMap<Account, i128>,
    pub(crate) booked: BTreeMap<Account, i128>,
    pub(crate) refused: BTreeMap<Account, i128>,
    pub(crate) lost: BTreeMap<Account, i128>,
    /// Every declaration that stands, as text.
    pub(crate) standing: Vec<DeclaredLoss>,
    pub(crate) watermark: Option<Timestamp>,
    pub(crate) agent: Option<AgentState>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) outputs: Vec<String>,
}

pub(crate) const PARTITIONS: u16 = 3;

impl Books {
    pub(crate) fn new() -> Self {
        Self::over(Intake::new())
    }

    pub(crate) fn over(intake: Intake) -> Self {
        let mut books = Self {
            intake,
            position: 0,
            stamp: Timestamp::from_secs(1_000_000),
            accepted: BTreeMap::new(),
            booked: BTreeMap::new(),
            refused: BTreeMap::new(),
            lost: BTreeMap::new(),
            standing: Vec::new(),
            watermark: None,
            agent: None,
            notices: Vec::new(),
            outputs: Vec::new(),
        };
        books.apply(Entry::Opened(Opened {
            lineage: Lineage::from_bytes([9; 16]),
            partitions: PARTITIONS,
            usage_window_secs: 60,
            settlement_millis: 60_000,
            future_tolerance_millis: 1000,
        }));
        books
    }

    pub(crate) fn batch(&mut self, batch: &Batch) -> IntakeOutput {
        // Everything of the tenant `villain` is refused.
        let verdict = |row: &Rollup| {
            (row.series.tenant().as_str() == "villain").then_some(RefusedReason::TenantNotAllowed)
        };
        let verdicts: Vec<_> = batch.rows.iter().map(verdict).collect();
        let verdicts = if verdicts.iter().all(Option::is_none) {
            Verdicts::AllAllowed
        } else {
            Verdicts::PerRow(verdicts)
        };
        let received = ReceivedBatch {
            batch: batch.clone(),
            policy: Digest([0; 32]),
            verdicts,
        };
        self.apply(Entry::Batch(Arc::new(received)))
    }

    pub(crate) fn tombstone(&mut self, incarnation: Incarnation, sequence: u64) -> IntakeOutput {
        self.apply(Entry::Tombstone(Tombstone {
            agent: agent_id(),
            incarnation,
            sequence: BatchSeq::new(sequence).expect("from 1"),
            reason: LossReason::SpoolDamaged,
            remembered: None,
        }))
    }

    pub(crate) fn missing(&mut self, incarnation: Incarnation, from: u64, to: u64) -> IntakeOutput {
        let number = |n| BatchSeq::new(n).expect("from 1");
        self.apply(Entry::Missing(Missing {
            agent: agent_id(),
            incarnation,
            from: number(from),
            to: number(to),
        }))
    }

    pub(crate) fn apply(&mut self, entry: Entry) -> IntakeOutput {
        self.position += 1;
        let position = Position::from_bytes(self.position.to_be_bytes());
        let output = self.intake.apply(
            position,
            &Stamped {
                stamp: self.stamp,
                entry,
            },
        );
        self.outputs.push(format!("{output:?}"));
        self.read(&output);
        self.check();
        output
    }

    fn read(&mut self, output: &IntakeOutput) {
        for (partition, input) in &output.inputs {
            match input {
                TenantInput::Accepted(all) => {
                    for accepted in all {
                        assert!(
                            !accepted.quantity.is_negative(),
                            "accepted fell: {accepted:?}"
                        );
                        let account = (accepted.tenant.to_string(), accepted.meter.to_string());
                        *self.accepted.entry(account).or_default() += accepted.quantity.units();
                    }
                }
                TenantInput::Rows(rows) => {
                    for (row, refused) in rows.rows.iter() {
                        assert_eq!(partition_of(row.series.tenant(), PARTITIONS), *partition);
                        let account = (
                            row.series.tenant().to_string(),
                            row.series.meter().to_string(),
                        );
                        let book = if refused.is_some() {
                            &mut self.refused
                        } else {
                            &mut self.booked
                        };
                        // Levels, maxima and sets are in no account.
                        if row.aggregation.adds_up() {
                            *book.entry(account).or_default() += row.value.units();
                        }
                    }
                }
                TenantInput::Loss(loss) => {
                    self.standing.push(loss.clone());
                    self.add_loss(loss, 1);
                }
                TenantInput::LossReversed(loss) => {
                    let index = self.standing.iter().position(|known| known == loss);
                    self.standing
                        .remove(index.expect("exactly what was declared is taken back"));
                    self.add_loss(loss, -1);
                }
                TenantInput::Watermarks(watermarks) => {
                    let watermark = watermarks.get(&agent_id()).copied();
                    assert!(watermark >= self.watermark, "a watermark fell");
                    self.watermark = watermark;
                }
                _ => {}
            }
        }
        for effect in &output.effects {
            if let Effect::Agent(state) = effect {
                self.agent = Some(state.clone());
            }
        }
        self.notices.extend(output.notices.iter().cloned());
    }

    fn add_loss(&mut self, declared: &DeclaredLoss, sign: i128) {
        let (LossAmount::Exact(quantity) | LossAmount::AtMost(quantity)) = declared.loss.amount
        else {
            return;
        };
        assert!(!quantity.is_negative() && !quantity.is_zero());
        let name =
            |name: &Option<TenantId>| name.as_ref().map_or_else(String::new, ToString::to_string);
        let meter = declared
            .loss
            .meter
            .as_ref()
            .map_or_else(String::new, ToString::to_string);
        *self
            .lost
            .entry((name(&declared.loss.tenant), meter))
            .or_default() += sign * quantity.units();
    }

    pub(crate) fn of(book: &BTreeMap<Account, i128>, account: &Account) -> i128 {
        book.get(account).copied().unwrap_or(0)
    }

    /// Conservation, for every account, after every entry.
    fn check(&self) {
        let books = [&self.accepted, &self.booked, &self.refused, &self.lost];
        for account in books.iter().flat_map(|book| book.keys()) {
            let [accepted, booked, refused, lost] = books.map(|book| Self::of(book, account));
            assert_eq!(accepted, booked + refused + lost, "{account:?}");
            assert!(lost >= 0);
        }
    }

    pub(crate) fn noticed(&self, kind: NoticeKind) -> usize {
        self.notices
            .iter()
            .filter(|notice| notice.kind == kind)
            .count()
    }

    pub(crate) fn unknown_standing(&self) -> usize {
        self.standing
            .iter()
            .filter(|loss| loss.loss.amount == LossAmount::Unknown)
            .count()
    }

    pub(crate) fn total(book: &BTreeMap<Account, i128>) -> i128 {
        book.values().sum()
    }
}
