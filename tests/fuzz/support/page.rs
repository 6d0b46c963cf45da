//! Pages as the client makes them: a header, slots, and cells that are counted in.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tollgate::cell::{Room, halves, histogram, level, unique};
use tollgate::kinds;
use tollgate::page::{MAGIC, SlotWords, VERSION, at, header_checksum, put_bytes, words_for};
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
    pub(crate) words: Vec<AtomicU64>,
    next: usize,
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
        let words: Vec<AtomicU64> = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
        let page = Self {
            words,
            next: at::DIRECTORY + SLOTS * 4,
            cells: Vec::new(),
            heap: Chunks(HEAP),
        };
        page.put(at::MAGIC, MAGIC);
        page.put(at::VERSION, VERSION);
        page.put(at::WORDS, WORDS as u64);
        page.put(at::SLOTS_MAX, SLOTS as u64);
        put_bytes(&page.words[at::ID..], &[id; 16]);
        page.put(at::CHECKSUM, header_checksum(&page.words));
        page
    }

    pub(crate) fn put(&self, at: usize, value: u64) {
        self.words[at % WORDS].store(value, Relaxed);
    }

    /// A slot for a series of a tenant.
    pub(crate) fn slot(&mut self, tenant: &str, aggregation: Aggregation) {
        let key = SeriesKey::new(
            TenantId::new(tenant).expect("valid"),
            meter(aggregation),
            Dimensions::new([("region", "eu")]).expect("valid"),
        );
        let key = key.expect("short").to_canonical();
        let small = |value: usize| u32::try_from(value).expect("small");
        let cell = self.next + words_for(key.len());
        put_bytes(&self.words[self.next..], &key);
        let of = SlotWords {
            key_at: small(self.next),
            key_bytes: small(key.len()),
            cell_at: small(cell),
            cell_words: small(kinds::words(aggregation)),
            aggregation: aggregation.code(),
            scale: 0,
        };
        let slot = at::DIRECTORY + self.cells.len() * 4;
        for (at, word) in (slot..).zip(of.to_words()) {
            self.put(at, word);
        }
        self.put(slot + 3, of.checksum(&key));
        self.next = cell + kinds::words(aggregation);
        assert!(self.next <= HEAP as usize, "the page is too small");
        self.cells.push((aggregation, cell));
        self.put(at::COUNT, self.cells.len() as u64);
    }

    /// Counts in a slot as an application does.
    pub(crate) fn count(&mut self, slot: usize, now: i64, n: u64) {
        const WIDTH: i64 = 10_000;
        let taken = |_, _| true;
        let (aggregation, cell) = self.cells[slot % self.cells.len()];
        let words = &self.words[cell..cell + kinds::words(aggregation)];
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
                let (halves, heap) = (words, &self.words[..]);
                let cell = unique::Cell { halves, heap };
                let _ = cell.insert(&mut self.heap, (now, WIDTH), n, taken);
            }
            Aggregation::Distribution => {
                let (sum, head) = words.split_at(2);
                let heap = &self.words[..];
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
        let words = self.words[..self.next].iter();
        words
            .flat_map(|word| word.load(Relaxed).to_le_bytes())
            .collect()
    }
}
