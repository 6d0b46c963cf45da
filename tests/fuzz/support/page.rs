//! Pages as the client makes them: a header, slots, and cells that are counted in.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tollgate::cell::{Room, halves, histogram, level, unique};
use tollgate::kinds;
use tollgate::page_writer::PageWriter;
use tollgate_common::{Aggregation, Dimensions, MeterName, SeriesKey, TenantId};

/// Words of a page with a few slots.
pub(crate) const WORDS: usize = 2048;
/// Slots of a page.
pub(crate) const SLOTS: usize = 16;
/// Where chunks of cells that grow begin.
const HEAP: u32 = 1024;
/// The kinds of cells that there are.
pub(crate) const KINDS: [Aggregation; 6] = [
    Aggregation::Sum,
    Aggregation::Last,
    Aggregation::Max,
    Aggregation::Unique,
    Aggregation::Distribution,
    Aggregation::TimeWeighted,
];

/// The meter of a kind.
pub(crate) fn meter(aggregation: Aggregation) -> MeterName {
    MeterName::new(&format!("m{}", aggregation.code())).expect("valid")
}

/// A page under construction, and then in use.
pub(crate) struct Page {
    writer: PageWriter,
    cells: Vec<(Aggregation, usize)>,
    heap: Chunks,
}

/// Room behind everything that is described.
struct Chunks(u32);

impl Room for Chunks {
    fn take(&mut self, words: u32) -> Option<u32> {
        let at = self.0;
        self.0 = at.checked_add(words).filter(|end| *end as usize <= WORDS)?;
        Some(at)
    }

    fn give(&mut self, _: u32, _: u32) {}
}

impl Page {
    pub(crate) fn new(id: u8) -> Self {
        Self {
            writer: PageWriter::new(WORDS, SLOTS, [id; 16]),
            cells: Vec::new(),
            heap: Chunks(HEAP),
        }
    }

    #[allow(dead_code, reason = "seeds are written as bytes")]
    pub(crate) fn words(&self) -> &[AtomicU64] {
        &self.writer.words
    }

    pub(crate) fn put(&self, at: usize, value: u64) {
        self.writer.put(at % WORDS, value);
    }

    /// A slot for a series of a tenant.
    pub(crate) fn slot(&mut self, tenant: &str, aggregation: Aggregation) {
        let key = SeriesKey::new(
            TenantId::new(tenant).expect("valid"),
            meter(aggregation),
            Dimensions::new([("region", "eu")]).expect("valid"),
        );
        let key = key.expect("short").to_canonical();
        let cell = self.writer.slot_of_key(&key, aggregation);
        let next = self.writer.next;
        assert!(next <= HEAP as usize, "the page is too small");
        self.cells.push((aggregation, cell));
    }

    /// Counts in a slot as an application does.
    pub(crate) fn count(&mut self, slot: usize, now: i64, n: u64) {
        const WIDTH: i64 = 10_000;
        let taken = |_, _| true;
        let (aggregation, cell) = self.cells[slot % self.cells.len()];
        let words = &self.writer.words[cell..cell + kinds::words(aggregation)];
        match aggregation {
            Aggregation::Sum => {
                words[0].fetch_add(n, Relaxed);
                words[1].fetch_add(1, Relaxed);
            }
            Aggregation::Last | Aggregation::Max => {
                let value = i64::from(u32::try_from(n & 0xffff_ffff).expect("masked"));
                halves::set(words, now, WIDTH, value, halves::Keep::Max, taken);
            }
            Aggregation::TimeWeighted => level::set(words, now, WIDTH, n & 0xffff),
            Aggregation::Unique => {
                let (halves, heap) = (words, &self.writer.words[..]);
                let cell = unique::Cell { halves, heap };
                let _ = cell.insert(&mut self.heap, (now, WIDTH), n, taken);
            }
            Aggregation::Distribution => {
                let (sum, head) = words.split_at(2);
                let heap = &self.writer.words[..];
                let cell = histogram::Cell { head, sum, heap };
                let base = || sum[0].load(Relaxed);
                let few = histogram::CHUNK_BUCKETS;
                let _ = cell.record(&mut self.heap, few, (n & 0xff, 1), 0, base);
            }
        }
    }

    /// The bytes of all that is described.
    #[allow(dead_code, reason = "seeds alone need it")]
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let words = self.writer.words[..self.writer.next].iter();
        words
            .flat_map(|word| word.load(Relaxed).to_le_bytes())
            .collect()
    }
}
