//! The fold in one piece: the intake and all tenant folds behind it.
//!
//! Replay, verification and the simulation run it as it is. The collector takes it apart and
//! runs the tenant folds on threads of their own; the effects are the same, because nothing
//! passes between tenant partitions.

use serde::{Deserialize, Serialize};
use tollgate_common::Timestamp;

use super::intake::{Intake, Notice};
use super::planted::Planted;
#[cfg(any(test, feature = "testing"))]
use super::planted::PlantedBug;
use super::tenant::TenantFold;
use crate::effect::Effect;
use crate::entry::Stamped;
use crate::position::Position;

/// Version of the state's bytes and of what they mean; a state of another version is not read but
/// made anew from the journal. It grows with [`FOLD_VERSION`](crate::entry::FOLD_VERSION) too:
/// a state that an older fold has come to is not what this one would have come to.
/// What builds with the feature `testing` write, no other build reads, and the reverse.
const STATE_VERSION: u16 = if cfg!(any(test, feature = "testing")) {
    32_768 + 17
} else {
    17
};

/// The fold of one journal partition.
#[derive(Debug)]
pub struct Fold {
    intake: Intake,
    tenants: Vec<TenantFold>,
    position: Option<Position>,
    /// Breaks the rules on purpose.
    planted: Planted,
}

/// What one entry causes.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// Changes for the projections, in order.
    pub effects: Vec<Effect>,
    /// For the log.
    pub notices: Vec<Notice>,
}

/// Why bytes are not a state of the fold.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Not the layout that [`Fold::to_bytes`] writes.
    #[error("state of the fold is malformed: {0}")]
    Malformed(&'static str),
    /// Written by another version of the program.
    #[error("state of the fold has version {0}, this program reads {STATE_VERSION}")]
    Version(u16),
    /// The intake's part is malformed.
    #[error("state of the intake: {0}")]
    Intake(#[from] postcard::Error),
    /// A tenant fold's part is malformed.
    #[error("state of the tenant fold {partition}: {message}")]
    Tenant {
        /// Which one.
        partition: usize,
        /// What is wrong.
        message: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Header {
    version: u16,
    position: Option<Position>,
    /// Lengths of the intake's and then of each tenant fold's bytes.
    lengths: Vec<u64>,
}

impl Default for Fold {
    fn default() -> Self {
        Self::new()
    }
}

impl Fold {
    /// The state before the first entry.
    pub fn new() -> Self {
        Self::from_parts(Intake::new(), Vec::new(), None)
    }

    /// A fold with a bug, for showing that tests find it.
    #[cfg(any(test, feature = "testing"))]
    pub fn with_bug(bug: PlantedBug) -> Self {
        let mut fold = Self::from_parts(Intake::with_bug(bug), Vec::new(), None);
        fold.planted = Planted::new(bug);
        fold.fit_partitions();
        fold
    }

    /// The fold of these parts, which have read everything up to `position`.
    pub fn from_parts(
        intake: Intake,
        tenants: Vec<TenantFold>,
        position: Option<Position>,
    ) -> Self {
        let mut fold = Self {
            intake,
            tenants,
            position,
            planted: Planted::default(),
        };
        fold.fit_partitions();
        fold
    }

    /// The intake, the tenant folds in the order of their partitions, and how far they have
    /// read.
    pub fn into_parts(self) -> (Intake, Vec<TenantFold>, Option<Position>) {
        (self.intake, self.tenants, self.position)
    }

    /// The intake.
    pub fn intake(&self) -> &Intake {
        &self.intake
    }

    /// The tenant folds in the order of their partitions.
    pub fn tenants(&self) -> &[TenantFold] {
        &self.tenants
    }

    /// The last entry that was applied.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// The stamp of the last entry.
    pub fn stamp(&self) -> Timestamp {
        self.intake.stamp()
    }

    /// Applies one entry and returns what changes.
    pub fn apply(&mut self, position: Position, stamped: &Stamped) -> Vec<Effect> {
        self.apply_with_notices(position, stamped).effects
    }

    /// Applies one entry and returns what changes and what the log should say.
    pub fn apply_with_notices(&mut self, position: Position, stamped: &Stamped) -> Applied {
        let output = self.intake.apply(position, stamped);
        self.fit_partitions();
        let stamp = self.intake.stamp();
        let mut effects = Vec::new();
        for (partition, input) in &output.inputs {
            if let Some(tenant) = self.tenants.get_mut(usize::from(*partition)) {
                effects.extend(tenant.apply(position, stamp, input));
            }
        }
        effects.extend(output.effects);
        self.position = Some(position);
        Applied {
            effects,
            notices: output.notices,
        }
    }

    /// One tenant fold per partition.
    fn fit_partitions(&mut self) {
        let known = u16::try_from(self.tenants.len()).unwrap_or(u16::MAX);
        self.tenants
            .extend((known..self.intake.partitions()).map(TenantFold::new));
        for tenant in &mut self.tenants {
            tenant.among(self.intake.partitions());
            tenant.plant(self.planted);
        }
    }

    /// The state as bytes. The same journal always gives the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let parts: Vec<Vec<u8>> = std::iter::once(self.intake.to_bytes())
            .chain(self.tenants.iter().map(TenantFold::to_bytes))
            .collect();
        let lengths = parts.iter().map(|part| part.len() as u64).collect();
        let header = Header {
            version: STATE_VERSION,
            position: self.position,
            lengths,
        };
        let mut bytes = serde_json::to_vec(&header).expect("the header is plain JSON");
        bytes.push(b'\n');
        bytes.extend(parts.into_iter().flatten());
        bytes
    }

    /// The state that [`Fold::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StateError> {
        let parts = StateParts::of(bytes)?;
        let intake = parts.intake()?;
        let tenants = (0..parts.tenants()).map(|partition| parts.tenant(partition));
        let tenants = tenants.collect::<Result<Vec<_>, _>>()?;
        parts.together(intake, tenants)
    }
}

/// The parts of a state as bytes: they know nothing of each other, so that several threads can
/// read them.
#[derive(Clone, Debug)]
pub struct StateParts<'b> {
    position: Option<Position>,
    intake: &'b [u8],
    tenants: Vec<&'b [u8]>,
}

impl<'b> StateParts<'b> {
    /// The parts of what [`Fold::to_bytes`] wrote.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn of(bytes: &'b [u8]) -> Result<Self, StateError> {
        let end = bytes
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or(StateError::Malformed("no header"))?;
        let (header, rest) = bytes.split_at(end);
        let mut rest = &rest[1..];
        let header: Header = serde_json::from_slice(header)
            .map_err(|_| StateError::Malformed("its header is no JSON"))?;
        if header.version != STATE_VERSION {
            return Err(StateError::Version(header.version));
        }
        let mut parts = Vec::new();
        for length in header.lengths {
            let length =
                usize::try_from(length).map_err(|_| StateError::Malformed("a part is too long"))?;
            let (part, after) = rest
                .split_at_checked(length)
                .ok_or(StateError::Malformed("it ends early"))?;
            parts.push(part);
            rest = after;
        }
        let Some((intake, tenants)) = parts.split_first().filter(|_| rest.is_empty()) else {
            return Err(StateError::Malformed("parts and lengths do not fit"));
        };
        Ok(Self {
            position: header.position,
            intake,
            tenants: tenants.to_vec(),
        })
    }

    /// The intake.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn intake(&self) -> Result<Intake, StateError> {
        Ok(Intake::from_bytes(self.intake)?)
    }

    /// How many tenant folds there are.
    pub fn tenants(&self) -> usize {
        self.tenants.len()
    }

    /// The tenant fold of a partition.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn tenant(&self, partition: usize) -> Result<TenantFold, StateError> {
        let bytes = self.tenants.get(partition).copied().unwrap_or_default();
        TenantFold::from_bytes(bytes).map_err(|error| StateError::Tenant {
            partition,
            message: error.to_string(),
        })
    }

    /// The fold of parts that were read, the tenant folds in the order of their partitions.
    ///
    /// # Errors
    /// [`StateError::Malformed`] if they are not those of the intake's partitions.
    pub fn together(&self, intake: Intake, tenants: Vec<TenantFold>) -> Result<Fold, StateError> {
        if tenants.len() != usize::from(intake.partitions()) {
            return Err(StateError::Malformed(
                "the number of tenant folds is not that of the partitions",
            ));
        }
        Ok(Fold::from_parts(intake, tenants, self.position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_an_older_fold_is_made_anew() {
        let mut older = Fold::new().to_bytes();
        assert!(Fold::from_bytes(&older).is_ok());
        let header = format!("{{\"version\":{STATE_VERSION},");
        assert!(older.starts_with(header.as_bytes()));
        let before = format!("{{\"version\":{},", STATE_VERSION - 1);
        older.splice(..header.len(), before.into_bytes());
        assert!(matches!(
            Fold::from_bytes(&older),
            Err(StateError::Version(version)) if version == STATE_VERSION - 1
        ));
    }
}
