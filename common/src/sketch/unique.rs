//! How many values differ: exact while they are few, HyperLogLog after that.
//!
//! Up to [`EXACT_MAX`] distinct hashes are kept as they are. Beyond that each hash raises one
//! of 4,096 registers, as in Flajolet, Fusy, Gandouet and Meunier, "HyperLogLog" (2007). The
//! form depends on the set of hashes alone, so that any order of merges ends in equal bytes.

use std::collections::BTreeSet;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::SketchError;
use super::estimate::estimate;

/// Bits of a hash that choose its register.
const REGISTER_BITS: u32 = 12;
/// Registers of the estimating form.
pub const REGISTERS: usize = 1 << REGISTER_BITS;
/// Highest value of a register: all of the 52 bits that do not choose it are zero.
pub const RANK_MAX: u8 = 53;
/// Most distinct hashes that are counted exactly.
pub const EXACT_MAX: usize = 256;

/// The register that a hash raises, below [`REGISTERS`], and to what, 1 to [`RANK_MAX`].
///
/// The upper 12 bits choose the register; the rank is the number of leading zeros in the
/// other 52 bits, plus 1.
#[expect(
    clippy::cast_possible_truncation,
    reason = "12 bits, and leading zeros of 52 bits"
)]
pub const fn register_of(hash: u64) -> (u16, u8) {
    let register = (hash >> (64 - REGISTER_BITS)) as u16;
    // The set bit ends the run of zeros where the 52 bits end.
    let rest = (hash << REGISTER_BITS) | (1 << (REGISTER_BITS - 1));
    (register, rest.leading_zeros() as u8 + 1)
}

/// The set of the distinct values seen, by their hashes; see [`super::hash`].
///
/// Up to 256 distinct hashes the estimate is their exact number. Above, its standard error is
/// 1.04 / sqrt(4096) = 1.63 %.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UniqueSketch(Form);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// Sorted, distinct, at most [`EXACT_MAX`].
    Exact(Vec<u64>),
    /// At least one is not 0, none is above [`RANK_MAX`].
    Registers(Box<[u8; REGISTERS]>),
}

impl Default for UniqueSketch {
    fn default() -> Self {
        Self::new()
    }
}

impl UniqueSketch {
    /// The sketch of nothing.
    pub const fn new() -> Self {
        Self(Form::Exact(Vec::new()))
    }

    /// The exact sketch of these hashes, which strictly increase.
    pub fn from_hashes(hashes: Vec<u64>) -> Result<Self, SketchError> {
        if hashes.len() > EXACT_MAX {
            return Err(SketchError::TooManyHashes(hashes.len()));
        }
        if hashes.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(SketchError::Order("hashes"));
        }
        Ok(Self(Form::Exact(hashes)))
    }

    /// The sketch of these registers.
    pub fn from_registers(registers: Box<[u8; REGISTERS]>) -> Result<Self, SketchError> {
        if let Some(register) = registers.iter().position(|&rank| rank > RANK_MAX) {
            return Err(SketchError::Rank {
                register,
                rank: registers[register],
            });
        }
        if registers.iter().all(|&rank| rank == 0) {
            return Err(SketchError::EmptyRegisters);
        }
        Ok(Self(Form::Registers(registers)))
    }

    /// Puts a hash in.
    pub fn insert(&mut self, hash: u64) {
        match &mut self.0 {
            Form::Exact(hashes) => {
                let Err(at) = hashes.binary_search(&hash) else {
                    return;
                };
                if hashes.len() < EXACT_MAX {
                    hashes.insert(at, hash);
                } else {
                    let mut registers = registers_of(hashes);
                    raise(&mut registers, hash);
                    self.0 = Form::Registers(registers);
                }
            }
            Form::Registers(registers) => raise(registers, hash),
        }
    }

    /// Puts in what `other` has seen.
    pub fn merge(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (Form::Exact(ours), Form::Exact(theirs)) => {
                let union: BTreeSet<u64> = ours.iter().chain(theirs).copied().collect();
                if union.len() <= EXACT_MAX {
                    *ours = union.into_iter().collect();
                } else {
                    let union: Vec<u64> = union.into_iter().collect();
                    self.0 = Form::Registers(registers_of(&union));
                }
            }
            (Form::Exact(ours), Form::Registers(theirs)) => {
                let mut registers = theirs.clone();
                for &hash in ours.iter() {
                    raise(&mut registers, hash);
                }
                self.0 = Form::Registers(registers);
            }
            (Form::Registers(ours), Form::Exact(theirs)) => {
                for &hash in theirs {
                    raise(ours, hash);
                }
            }
            (Form::Registers(ours), Form::Registers(theirs)) => {
                for (rank, &other) in ours.iter_mut().zip(theirs.iter()) {
                    *rank = (*rank).max(other);
                }
            }
        }
    }

    /// How many distinct values were seen: exact while [`UniqueSketch::is_exact`], otherwise
    /// estimated with a standard error of 1.63 %.
    pub fn estimate(&self) -> u64 {
        match &self.0 {
            Form::Exact(hashes) => hashes.len() as u64,
            Form::Registers(registers) => estimate(registers),
        }
    }

    /// True while every distinct hash is kept.
    pub const fn is_exact(&self) -> bool {
        matches!(self.0, Form::Exact(_))
    }

    /// True if nothing was put in.
    pub fn is_empty(&self) -> bool {
        self.hashes().is_some_and(<[u64]>::is_empty)
    }

    /// The distinct hashes, sorted, while the sketch is exact.
    pub fn hashes(&self) -> Option<&[u64]> {
        match &self.0 {
            Form::Exact(hashes) => Some(hashes),
            Form::Registers(_) => None,
        }
    }

    /// The registers once the sketch estimates.
    pub fn registers(&self) -> Option<&[u8; REGISTERS]> {
        match &self.0 {
            Form::Exact(_) => None,
            Form::Registers(registers) => Some(registers),
        }
    }
}

fn registers_of(hashes: &[u64]) -> Box<[u8; REGISTERS]> {
    let mut registers = Box::new([0; REGISTERS]);
    for &hash in hashes {
        raise(&mut registers, hash);
    }
    registers
}

fn raise(registers: &mut [u8; REGISTERS], hash: u64) {
    let (register, rank) = register_of(hash);
    let standing = &mut registers[usize::from(register)];
    *standing = (*standing).max(rank);
}

/// What a reader wants to know; the hashes stand for what may be personal and stay inside.
impl Serialize for UniqueSketch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("UniqueSketch", 2)?;
        fields.serialize_field("estimate", &self.estimate())?;
        fields.serialize_field("exact", &self.is_exact())?;
        fields.end()
    }
}
