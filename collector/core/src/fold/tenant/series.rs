//! Usage that does not add up over series: what stands for each series of a meter in a period.
//!
//! Sums need no series; of a level, a maximum or a set of distinct values every series has one of its
//! own. There may be a million of them, so keys lie packed in one piece of memory, each found by
//! being the successor of the one before, as in the batch before, and else by a hash.
//! A period that is closed keeps them packed, sorted, each key as what it has beyond the one before;
//! late usage unpacks them again.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tollgate_common::sketch::UniqueSketch;
use tollgate_common::{AgentId, Aggregation, Detail, Dimensions, Quantity, Rollup, Timestamp};

use crate::fold::kept::KeptDetail;
use crate::fold::names::Names;
use crate::fold::packed::{Packed, Unpack, halves, put_bytes, put_i128, put_u128, reserve};
use crate::rate::{GatherError, MeterUsage, Part, Shape};

/// In place of an index.
const NONE: u32 = u32::MAX;
/// Fewer series are looked through one by one.
const TABLE_MIN: usize = 8;

/// Agents by number, so that a level names its agent in four bytes.
pub(super) type Agents = Names<AgentId>;

/// What comes with the rows that are counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reporter<'a> {
    /// Number of the agent that reports.
    pub(super) agent: u32,
    pub(super) agents: &'a Agents,
    /// Seed of hashes: whoever names the series could aim at one slot. It has no influence on any
    /// figure.
    pub(super) seed: u64,
}

/// What stands for one series.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Low and high half of the value: the newest or the largest one.
    value: [u64; 2],
    /// Of `last`: start of the value's window.
    start: Timestamp,
    /// Of `last`: who said so.
    agent: u32,
    /// Where the key begins; it ends where that of the next entry begins.
    key: u32,
    /// The series that was counted after this one when it was last counted.
    successor: u32,
}

impl Entry {
    fn value(&self) -> i128 {
        let [low, high] = self.value.map(u128::from);
        (low | high << 64).cast_signed()
    }

    fn set(&mut self, value: Quantity) {
        self.value = halves(value.units().to_le_bytes());
    }
}

/// Series of one meter in one period that count on.
#[derive(Clone, Debug, Default)]
struct Live {
    /// Keys one after the other: part and dimensions, see [`write_key`].
    keys: Vec<u8>,
    entries: Vec<Entry>,
    /// Of `unique`: everything that was seen, by entry.
    sets: Vec<KeptDetail>,
    /// Entries by the hash of their keys; empty while there are few, and after unpacking.
    table: HashTable<u32>,
    /// The entry that was counted last; [`NONE`] at the beginning of a run.
    last: u32,
}

/// Series of one meter in one period.
#[derive(Clone, Debug)]
pub(super) struct Series {
    aggregation: Aggregation,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Live(Box<Live>),
    Packed(Packed),
}

impl Series {
    /// No series, of a meter whose values do not add up.
    pub(super) fn new(aggregation: Aggregation) -> Self {
        Self {
            aggregation,
            state: State::Live(Box::default()),
        }
    }

    /// Counts rows of this meter and period, whose values are within the bound of a rollup.
    pub(super) fn count(
        &mut self,
        rows: &[Rollup],
        reporter: &Reporter<'_>,
        shape: Option<&Shape>,
    ) {
        let aggregation = self.aggregation;
        let live = self.live();
        let mut key = Vec::with_capacity(128);
        live.last = NONE;
        for row in rows {
            let dimensions = row.series.dimensions();
            let parts = shape.map(|shape| shape.parts_of(row.window, dimensions));
            let whole = shape.is_none().then(Part::default);
            for part in parts.into_iter().flatten().chain(whole) {
                key.clear();
                write_key(part, dimensions, &mut key);
                live.stand(&key, row, aggregation, reporter);
            }
        }
    }

    /// The values of all series, added up.
    pub(super) fn quantity(&self) -> Quantity {
        let live = self.look();
        Quantity::checked_sum((0..live.entries.len()).map(|at| live.value(at)))
            .expect("2^32 series of 2^80 units fit a quantity")
    }

    /// The same by part.
    pub(super) fn usage(&self) -> Result<MeterUsage, GatherError> {
        let live = self.look();
        let mut usage = MeterUsage::default();
        let count = u32::try_from(live.entries.len()).unwrap_or(NONE);
        for at in 0..count {
            let part = read_part(&mut Unpack(live.key(at))).unwrap_or_default();
            usage.add_somewhere(part, live.value(at as usize))?;
        }
        Ok(usage)
    }

    fn look(&self) -> Cow<'_, Live> {
        match &self.state {
            State::Live(live) => Cow::Borrowed(live),
            State::Packed(packed) => Cow::Owned(unpacked(packed, self.aggregation)),
        }
    }

    /// Packs the series of a period that is closed.
    pub(super) fn pack(&mut self) {
        if let State::Live(live) = &self.state {
            self.state = State::Packed(Packed(pack(live, self.aggregation).into()));
        }
    }

    fn live(&mut self) -> &mut Live {
        if let State::Packed(packed) = &self.state {
            self.state = State::Live(Box::new(unpacked(packed, self.aggregation)));
        }
        match &mut self.state {
            State::Live(live) => live,
            State::Packed(_) => unreachable!("it was unpacked above"),
        }
    }
}

fn unpacked(packed: &Packed, aggregation: Aggregation) -> Live {
    unpack(&packed.0, aggregation).expect("what was read was checked, and the rest we wrote")
}

/// How the value that stands orders against one of `agent` in the window that begins at `start`.
fn order_of(entry: &Entry, agents: &Agents, start: Timestamp, agent: u32) -> Ordering {
    let by_agent = || {
        if entry.agent == agent {
            return Ordering::Equal;
        }
        agents.get(entry.agent).cmp(&agents.get(agent))
    };
    entry.start.cmp(&start).then_with(by_agent)
}

impl Live {
    fn key(&self, at: u32) -> &[u8] {
        let at = at as usize;
        let from = self.entries[at].key as usize;
        let to = self.entries.get(at + 1);
        &self.keys[from..to.map_or(self.keys.len(), |next| next.key as usize)]
    }

    fn value(&self, at: usize) -> Quantity {
        Quantity::new(match self.sets.get(at).map(|set| &set.0) {
            Some(Detail::Unique(sketch)) => sketch.estimate().into(),
            _ => self.entries[at].value(),
        })
    }

    /// Lets a row stand under this key, if it is newer or larger than what does.
    fn stand(
        &mut self,
        key: &[u8],
        row: &Rollup,
        aggregation: Aggregation,
        reporter: &Reporter<'_>,
    ) {
        let (at, is_new) = self.entry(key, reporter.seed);
        if is_new && aggregation == Aggregation::Unique {
            self.sets.push(KeptDetail::default());
        }
        let entry = &mut self.entries[at as usize];
        match aggregation {
            // What the agent estimates of its part is no part of the whole's estimate, which is
            // made when somebody asks: a row of one value costs one value.
            Aggregation::Unique => {
                self.sets[at as usize].absorb(&row.detail);
            }
            Aggregation::Last => {
                let start = row.window.start();
                // Equal: the same agent revised the window; what came later stands.
                if is_new || order_of(entry, reporter.agents, start, reporter.agent).is_le() {
                    (entry.start, entry.agent) = (start, reporter.agent);
                    entry.set(row.value);
                }
            }
            _ => {
                if is_new || entry.value() < row.value.units() {
                    entry.set(row.value);
                }
            }
        }
    }

    /// The entry with this key, made if there is none.
    fn entry(&mut self, key: &[u8], seed: u64) -> (u32, bool) {
        let before = self.entries.get(self.last as usize);
        let expected = before.map_or(NONE, |before| before.successor);
        if (expected as usize) < self.entries.len() && self.key(expected) == key {
            self.last = expected;
            return (expected, false);
        }
        let found = self.find(key, seed);
        let at = found.unwrap_or_else(|| self.add(key, seed));
        if let Some(before) = self.entries.get_mut(self.last as usize) {
            before.successor = at;
        }
        self.last = at;
        (at, found.is_none())
    }

    fn find(&mut self, key: &[u8], seed: u64) -> Option<u32> {
        if self.entries.len() <= TABLE_MIN {
            let mut all = 0..u32::try_from(self.entries.len()).unwrap_or(NONE);
            return all.find(|&at| self.key(at) == key);
        }
        if self.table.len() < self.entries.len() {
            self.index(seed);
        }
        let hash = FixedState::with_seed(seed).hash_one(key);
        self.table.find(hash, |&at| self.key(at) == key).copied()
    }

    fn add(&mut self, key: &[u8], seed: u64) -> u32 {
        let from = u32::try_from(self.keys.len() + key.len())
            .expect("the keys of a meter's series have fewer than 2^32 bytes");
        let at = u32::try_from(self.entries.len()).expect("fewer series than bytes of keys");
        reserve(&mut self.keys, key.len());
        self.keys.extend_from_slice(key);
        reserve(&mut self.entries, 1);
        self.entries.push(Entry {
            value: [0; 2],
            start: Timestamp::EPOCH,
            agent: 0,
            key: from - u32::try_from(key.len()).unwrap_or(0),
            successor: at + 1,
        });
        if self.table.len() + 1 == self.entries.len() {
            self.insert(at, seed);
        }
        at
    }

    fn insert(&mut self, at: u32, seed: u64) {
        let hasher = FixedState::with_seed(seed);
        let hash = hasher.hash_one(self.key(at));
        let mut table = std::mem::take(&mut self.table);
        table.insert_unique(hash, at, |&at| hasher.hash_one(self.key(at)));
        self.table = table;
    }

    /// Makes the table anew.
    fn index(&mut self, seed: u64) {
        self.table = HashTable::with_capacity(self.entries.len());
        for at in 0..u32::try_from(self.entries.len()).unwrap_or(NONE) {
            self.insert(at, seed);
        }
    }
}

/// The part, then every key and value of the dimensions, each with its length before it.
fn write_key(part: Part, dimensions: &Dimensions, out: &mut Vec<u8>) {
    for number in [part.slice.into(), part.interval, part.cell.into()] {
        put_u128(out, u128::from(number));
    }
    for (key, value) in dimensions.iter() {
        put_bytes(out, key.as_bytes());
        put_bytes(out, value.as_bytes());
    }
}

/// The part that a key begins with.
fn read_part(key: &mut Unpack<'_>) -> Option<Part> {
    Some(Part {
        slice: key.u128()?.try_into().ok()?,
        interval: key.u128()?.try_into().ok()?,
        cell: key.u128()?.try_into().ok()?,
    })
}

/// In the order of the keys: how many bytes of the key are those of the key before, the other
/// bytes, and what stands.
fn pack(live: &Live, aggregation: Aggregation) -> Vec<u8> {
    let count = u32::try_from(live.entries.len()).unwrap_or(NONE);
    let mut order: Vec<u32> = (0..count).collect();
    order.sort_unstable_by(|&a, &b| live.key(a).cmp(live.key(b)));
    let (mut out, mut bytes) = (Vec::new(), Vec::new());
    let mut before: &[u8] = &[];
    for at in order {
        let key = live.key(at);
        let same = key.iter().zip(before).take_while(|(a, b)| a == b).count();
        put_u128(&mut out, same as u128);
        put_bytes(&mut out, &key[same..]);
        before = key;
        let entry = &live.entries[at as usize];
        if aggregation == Aggregation::Unique {
            bytes.clear();
            if let Detail::Unique(sketch) = &live.sets[at as usize].0 {
                sketch.write_canonical(&mut bytes);
            }
            put_bytes(&mut out, &bytes);
            continue;
        }
        put_i128(&mut out, entry.value());
        if aggregation == Aggregation::Last {
            put_i128(&mut out, entry.start.millis().into());
            put_u128(&mut out, entry.agent.into());
        }
    }
    out
}

/// What [`pack`] wrote; `None` for other bytes.
fn unpack(bytes: &[u8], aggregation: Aggregation) -> Option<Live> {
    let mut reader = Unpack(bytes);
    let mut live = Live::default();
    let mut key = Vec::new();
    while !reader.is_empty() {
        let same = usize::try_from(reader.u128()?).ok()?;
        if same > key.len() {
            return None;
        }
        let before = (!live.entries.is_empty()).then(|| key.clone());
        key.truncate(same);
        key.extend_from_slice(reader.bytes()?);
        if before.is_some_and(|before| before >= key) {
            return None;
        }
        read_part(&mut Unpack(&key))?;
        let at = u32::try_from(live.entries.len()).ok()?;
        let mut entry = Entry {
            value: [0; 2],
            start: Timestamp::EPOCH,
            agent: 0,
            key: u32::try_from(live.keys.len()).ok()?,
            successor: at.checked_add(1)?,
        };
        reserve(&mut live.keys, key.len());
        live.keys.extend_from_slice(&key);
        if aggregation == Aggregation::Unique {
            let bytes = reader.bytes()?;
            let set = match bytes {
                [] => Detail::None,
                _ => Detail::Unique(UniqueSketch::from_canonical(bytes).ok()?.into()),
            };
            live.sets.push(KeptDetail(set));
        } else {
            entry.set(Quantity::new(reader.i128()?));
            if aggregation == Aggregation::Last {
                entry.start = Timestamp::from_millis(reader.i128()?.try_into().ok()?);
                entry.agent = reader.u128()?.try_into().ok()?;
            }
        }
        reserve(&mut live.entries, 1);
        live.entries.push(entry);
    }
    live.last = NONE;
    Some(live)
}

impl PartialEq for Series {
    fn eq(&self, other: &Self) -> bool {
        self.aggregation == other.aggregation && self.to_packed() == other.to_packed()
    }
}

impl Series {
    fn to_packed(&self) -> Cow<'_, [u8]> {
        match &self.state {
            State::Live(live) => pack(live, self.aggregation).into(),
            State::Packed(packed) => (&*packed.0).into(),
        }
    }
}

impl Serialize for Series {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let is_live = matches!(self.state, State::Live(_));
        let packed = Packed(self.to_packed().into());
        (self.aggregation, is_live, packed).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Series {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (aggregation, is_live, packed) =
            <(Aggregation, bool, Packed)>::deserialize(deserializer)?;
        let live = unpack(&packed.0, aggregation)
            .ok_or_else(|| serde::de::Error::custom("the series of a meter are malformed"))?;
        let state = if is_live {
            State::Live(Box::new(live))
        } else {
            State::Packed(packed)
        };
        Ok(Self { aggregation, state })
    }
}
