//! What the call sites of a thread counted last, found again by its bytes.
//!
//! A table in memory of its own, of which the kernel gives what is used: a thread that counts
//! four combinations of values takes four pages. Texts of up to sixteen bytes are two words
//! each, by which they are both hashed and compared, without a call and without a loop that
//! depends on their length. Longer ones, as far as an entry has room, take a longer way.
//!
//! One thread at a time has a table; what it leaves, the next thread with its block finds. It is
//! not for signal handlers: one that remembers something else between a comparison in
//! [`Recent::find`] and the reading of the place would have the thread count there.

#![expect(
    clippy::inline_always,
    reason = "a call gives the words of texts back through memory, which costs as much as they do"
)]

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, Release};

/// Combinations of values that a thread remembers.
const ENTRIES: usize = 1024;
/// Places that a combination may be in.
const WAYS: usize = 4;
/// Words of an entry: names, meter and place, form, and the texts.
const ENTRY_WORDS: usize = 32;
const AT_NAMES: usize = 0;
const AT_PLACE: usize = 1;
const AT_FORM: usize = 2;
const AT_TEXTS: usize = 3;
const TEXT_WORDS: usize = ENTRY_WORDS - AT_TEXTS;
/// The table begins with its secret and the number of entries made.
const AT_SECRET: usize = 0;
const AT_MADE: usize = 1;
const AT_TAGS: usize = 8;
const AT_ENTRIES: usize = AT_TAGS + ENTRIES;
/// Words of a table.
pub(crate) const WORDS: usize = AT_ENTRIES + ENTRIES * ENTRY_WORDS;

/// Most texts of the short form: their lengths are five bits each.
const SHORT_TEXTS: usize = 12;
/// Tells a tag from none.
const IN_USE: u64 = 1 << 63;
/// Marks the long form.
const LONG: u64 = 1 << 63;
/// Odd, with its bits spread: the fraction of the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The table of a thread.
#[derive(Clone, Copy)]
pub(crate) struct Recent(&'static [AtomicU64; WORDS]);

/// What is counted: which names, which meter, and the texts.
#[derive(Clone, Copy)]
pub(crate) struct Named<'a, const N: usize> {
    /// Where the names are in memory.
    pub(crate) names: usize,
    pub(crate) meter: u32,
    pub(crate) tenant: &'a str,
    pub(crate) values: &'a [&'a str; N],
}

/// The halves of a product, one over the other.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the low half of a product")]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

/// The words of a text of at most sixteen bytes; texts of the same length differ in them.
#[inline(always)]
fn short(text: &str) -> Option<[u64; 2]> {
    let text = text.as_bytes();
    match text.len() {
        17.. => None,
        8.. => Some([
            first(text, u64::from_le_bytes),
            last(text, u64::from_le_bytes),
        ]),
        4.. => {
            let [first, last] = [
                first(text, u32::from_le_bytes),
                last(text, u32::from_le_bytes),
            ];
            Some([u64::from(last) << 32 | u64::from(first), 0])
        }
        2.. => {
            let [first, last] = [
                first(text, u16::from_le_bytes),
                last(text, u16::from_le_bytes),
            ];
            Some([u64::from(last) << 16 | u64::from(first), 0])
        }
        _ => Some([text.first().copied().unwrap_or(0).into(), 0]),
    }
}

/// The first bytes of a text that has so many.
#[inline(always)]
fn first<T, const N: usize>(text: &[u8], word: impl FnOnce([u8; N]) -> T) -> T {
    word(text.first_chunk().copied().unwrap_or([0; N]))
}

#[inline(always)]
fn last<T, const N: usize>(text: &[u8], word: impl FnOnce([u8; N]) -> T) -> T {
    word(text.last_chunk().copied().unwrap_or([0; N]))
}

/// The texts of the short form and what tells them from others.
struct Short<const N: usize> {
    tenant: [u64; 2],
    values: [[u64; 2]; N],
    form: u64,
}

// Plain loops of a known number of turns: they are unrolled without fail.
impl<const N: usize> Short<N> {
    #[inline(always)]
    fn of(named: &Named<'_, N>) -> Option<Self> {
        if N >= SHORT_TEXTS {
            return None;
        }
        let mut short = Self {
            tenant: short(named.tenant)?,
            values: [[0; 2]; N],
            form: named.tenant.len() as u64,
        };
        let mut at = 0;
        while at < N {
            short.values[at] = self::short(named.values[at])?;
            short.form = short.form << 5 | named.values[at].len() as u64;
            at += 1;
        }
        Some(short)
    }

    /// No product depends on another one, so that they are made side by side.
    #[inline(always)]
    fn tag(&self, secret: u64, named: &Named<'_, N>) -> u64 {
        let [a, b] = self.tenant;
        let names = named.names as u64 ^ u64::from(named.meter) << 48;
        let mut tag = pair(secret, 0, [a ^ names, b ^ self.form]);
        let mut at = 0;
        while at < N {
            tag ^= pair(secret, at as u64 + 1, self.values[at]);
            at += 1;
        }
        (tag ^ tag >> 32) | IN_USE
    }

    /// 0 if an entry has these texts.
    #[inline(always)]
    fn differs(&self, entry: &[AtomicU64; ENTRY_WORDS]) -> u64 {
        let text = |at: usize, text: [u64; 2]| {
            entry[AT_TEXTS + at].load(Relaxed) ^ text[0]
                | entry[AT_TEXTS + at + 1].load(Relaxed) ^ text[1]
        };
        let mut differs = entry[AT_FORM].load(Relaxed) ^ self.form | text(0, self.tenant);
        let mut at = 0;
        while at < N {
            differs |= text(2 * at + 2, self.values[at]);
            at += 1;
        }
        differs
    }
}

/// The same words in another place give another product.
#[inline(always)]
fn pair(secret: u64, at: u64, [a, b]: [u64; 2]) -> u64 {
    let key = SPREAD.wrapping_mul(2 * at + 1);
    fold(a ^ key, b ^ secret)
}

/// Texts one after the other, each with its length before it; for those of the long form.
struct Long {
    words: [u64; TEXT_WORDS],
    used: usize,
}

impl Long {
    fn of<const N: usize>(named: &Named<'_, N>) -> Option<Self> {
        let mut long = Self {
            words: [0; TEXT_WORDS],
            used: 0,
        };
        for text in std::iter::once(&named.tenant).chain(named.values) {
            long.put(text.len() as u64)?;
            let (words, rest) = text.as_bytes().as_chunks();
            for word in words {
                long.put(u64::from_le_bytes(*word))?;
            }
            if !rest.is_empty() {
                let mut word = [0; 8];
                word[..rest.len()].copy_from_slice(rest);
                long.put(u64::from_le_bytes(word))?;
            }
        }
        Some(long)
    }

    fn put(&mut self, word: u64) -> Option<()> {
        *self.words.get_mut(self.used)? = word;
        self.used += 1;
        Some(())
    }

    fn texts(&self) -> &[u64] {
        &self.words[..self.used]
    }

    fn form(&self) -> u64 {
        LONG | self.used as u64
    }

    fn tag<const N: usize>(&self, secret: u64, named: &Named<'_, N>) -> u64 {
        let names = named.names as u64 ^ u64::from(named.meter) << 48;
        let head = fold(secret ^ names, self.form() ^ !SPREAD);
        let tag = self
            .texts()
            .iter()
            .fold(head, |tag, word| fold(tag ^ word, SPREAD ^ secret));
        tag | IN_USE
    }
}

impl Recent {
    /// A table in memory of zeros, with a secret that nobody outside can aim at.
    pub(crate) fn new(memory: &'static [AtomicU64], secret: u64) -> Option<Self> {
        let memory: &'static [AtomicU64; WORDS] = memory.first_chunk()?;
        memory[AT_SECRET].store(secret, Relaxed);
        Some(Self(memory))
    }

    #[inline(always)]
    fn secret(self) -> u64 {
        self.0[AT_SECRET].load(Relaxed)
    }

    #[inline(always)]
    fn entry(self, at: usize) -> &'static [AtomicU64; ENTRY_WORDS] {
        let (_, entries) = self.0.split_at(AT_ENTRIES);
        let (entries, _) = entries.as_chunks();
        &entries[at % ENTRIES]
    }

    /// Where the cell is that was remembered.
    #[inline(always)]
    pub(crate) fn find<const N: usize>(self, named: &Named<'_, N>) -> Option<u32> {
        let Some(short) = Short::of(named) else {
            return self.find_long(named);
        };
        let tag = short.tag(self.secret(), named);
        let first = first_of(tag);
        let mut at = first;
        while at < first + WAYS {
            if self.0[AT_TAGS + at].load(Relaxed) == tag {
                let entry = self.entry(at);
                let found = place(entry, named, short.differs(entry));
                if found.is_some() {
                    return found;
                }
            }
            at += 1;
        }
        None
    }

    #[cold]
    #[inline(never)]
    fn find_long<const N: usize>(self, named: &Named<'_, N>) -> Option<u32> {
        let long = Long::of(named)?;
        let tag = long.tag(self.secret(), named);
        let first = first_of(tag);
        let mut tagged =
            (first..first + WAYS).filter(|at| self.0[AT_TAGS + at].load(Relaxed) == tag);
        tagged.find_map(|at| {
            let entry = self.entry(at);
            let mut differs = entry[AT_FORM].load(Relaxed) ^ long.form();
            for (word, text) in entry[AT_TEXTS..].iter().zip(long.texts()) {
                differs |= word.load(Relaxed) ^ text;
            }
            place(entry, named, differs)
        })
    }

    /// Remembers where a cell is, if an entry has room for the texts.
    pub(crate) fn remember<const N: usize>(self, named: &Named<'_, N>, cell: u32) {
        let secret = self.secret();
        if let Some(short) = Short::of(named) {
            let texts = short
                .tenant
                .into_iter()
                .chain(short.values.into_iter().flatten());
            self.put(short.tag(secret, named), named, cell, short.form, texts);
        } else if let Some(long) = Long::of(named) {
            let texts = long.texts().iter().copied();
            self.put(long.tag(secret, named), named, cell, long.form(), texts);
        }
    }

    fn put<const N: usize>(
        self,
        tag: u64,
        named: &Named<'_, N>,
        cell: u32,
        form: u64,
        texts: impl Iterator<Item = u64>,
    ) {
        let made = self.0[AT_MADE].load(Relaxed);
        self.0[AT_MADE].store(made.wrapping_add(1), Relaxed);
        let first = first_of(tag);
        let mut ways = first..first + WAYS;
        let free = ways.find(|at| self.0[AT_TAGS + at].load(Relaxed) == 0);
        let in_turn = usize::try_from(made % WAYS as u64).unwrap_or(0);
        let at = free.unwrap_or(first + in_turn);
        let (tag_word, entry) = (&self.0[AT_TAGS + at], self.entry(at));
        tag_word.store(0, Relaxed);
        entry[AT_NAMES].store(named.names as u64, Release);
        entry[AT_PLACE].store(u64::from(named.meter) << 32 | u64::from(cell), Release);
        entry[AT_FORM].store(form, Release);
        for (word, text) in entry[AT_TEXTS..].iter().zip(texts) {
            word.store(text, Release);
        }
        tag_word.store(tag, Release);
    }
}

#[inline(always)]
fn first_of(tag: u64) -> usize {
    let set = tag & (ENTRIES / WAYS - 1) as u64;
    usize::try_from(set).unwrap_or(0) * WAYS
}

/// The place in an entry of the same names and meter, if nothing else differs (0).
#[inline(always)]
fn place<const N: usize>(
    entry: &[AtomicU64; ENTRY_WORDS],
    named: &Named<'_, N>,
    differs: u64,
) -> Option<u32> {
    let place = entry[AT_PLACE].load(Relaxed);
    let names = entry[AT_NAMES].load(Relaxed) ^ named.names as u64;
    let same = differs | names | (place >> 32 ^ u64::from(named.meter)) == 0;
    let cell = u32::try_from(place & u64::from(u32::MAX)).ok();
    cell.filter(|_| same)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table() -> Recent {
        let memory: Vec<AtomicU64> = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
        Recent::new(memory.leak(), 0x1234_5678_9abc_def1).expect("whole")
    }

    fn named<'a, const N: usize>(tenant: &'a str, values: &'a [&'a str; N]) -> Named<'a, N> {
        Named {
            names: 77,
            meter: 3,
            tenant,
            values,
        }
    }

    /// Texts that agree at their ends, around the lengths where the forms change.
    fn text() -> impl Strategy<Value = String> {
        "[ab]{0,6}|a{0,7}[ab]{1,3}a{0,9}|a{8,20}[ab]a{0,10}"
    }

    proptest! {
        #[test]
        fn only_the_very_same_is_found(a in [text(), text(), text()], b in [text(), text(), text()]) {
            let recent = table();
            let [tenant, values @ ..] = a.each_ref().map(String::as_str);
            recent.remember(&named(tenant, &values), 5);
            prop_assert_eq!(recent.find(&named(tenant, &values)), Some(5));
            let [other, others @ ..] = b.each_ref().map(String::as_str);
            let expected = (a == b).then_some(5);
            prop_assert_eq!(recent.find(&named(other, &others)), expected);
            // The same texts under one tag, which nobody can see to come apart in the hash.
            let short = Short::of(&named(tenant, &values));
            let shorter = Short::of(&named(other, &others));
            if let (Some(short), Some(other)) = (short, shorter) {
                let same = short.form == other.form && short.values == other.values
                    && short.tenant == other.tenant;
                prop_assert_eq!(same, a == b);
            }
            let long = Long::of(&named(tenant, &values)).expect("room");
            let longer = Long::of(&named(other, &others)).expect("room");
            prop_assert_eq!(long.texts() == longer.texts(), a == b);
        }
    }

    #[test]
    fn names_and_meters_are_told_apart() {
        let recent = table();
        let named = named("acme", &["eu"]);
        recent.remember(&named, 5);
        assert_eq!(recent.find(&Named { names: 78, ..named }), None);
        assert_eq!(recent.find(&Named { meter: 4, ..named }), None);
        let long = "x".repeat(40);
        let values = [long.as_str()];
        let named = Named {
            values: &values,
            ..named
        };
        recent.remember(&named, 6);
        assert_eq!(recent.find(&named), Some(6));
        assert_eq!(recent.find(&Named { meter: 4, ..named }), None);
    }

    #[test]
    fn what_has_no_room_is_not_remembered_and_many_push_others_out() {
        let recent = table();
        let long = "x".repeat(300);
        recent.remember(&named(&long, &[]), 5);
        assert_eq!(recent.find(&named(&long, &[])), None);
        let many: Vec<String> = (0..5000).map(|n| format!("v{n}")).collect();
        for (value, cell) in many.iter().zip(0..) {
            recent.remember(&named("acme", &[value]), cell);
            assert_eq!(recent.find(&named("acme", &[value])), Some(cell));
        }
        let found = many.iter().zip(0..).filter(|(value, cell)| {
            let found = recent.find(&named("acme", &[value]));
            assert!(found.is_none_or(|found| found == *cell));
            found.is_some()
        });
        assert_eq!(found.count(), ENTRIES);
    }

    #[test]
    fn thirteen_texts_are_of_the_long_form() {
        let recent = table();
        let values = ["v"; 13];
        recent.remember(&named("acme", &values), 5);
        assert_eq!(recent.find(&named("acme", &values)), Some(5));
        let mut others = values;
        others[12] = "w";
        assert_eq!(recent.find(&named("acme", &others)), None);
    }
}
