//! What documents are read from: the ledger in the data folder, and what is kept beside it.

use std::collections::BTreeMap;

use tollgate_collector_core::config::Config;
use tollgate_collector_core::entry::Digest;
use tollgate_collector_core::invoice::party::Party;
use tollgate_collector_core::invoice::register::Register;
use tollgate_collector_core::invoice::{self, Invoice, Parties as Parts};
use tollgate_collector_core::ledger::{EntryKind, EntryRef, LedgerEntry};
use tollgate_common::TenantId;

use crate::cli::args::OutputArgs;
use crate::cli::{Failure, load};
use crate::parties::{Parties, Snapshot};
use crate::run::DataDir;
use crate::run::books::each_entry;
use crate::sqlite::query::{Filter, Reader};

/// The ledger in the data folder, and what is kept beside it.
pub(in crate::cli) struct Store {
    pub(in crate::cli) config: Config,
    pub(in crate::cli) reader: Reader,
    parties: Option<Parties>,
}

impl Store {
    pub(in crate::cli) fn open(args: &OutputArgs) -> Result<Self, Failure> {
        let config = load::config(&args.config)?;
        let data = DataDir::new(&config.data_dir);
        let reader = Reader::open(&data.projection()).map_err(Failure::failed)?;
        let parties = Parties::open_existing(&data.parties()).map_err(Failure::failed)?;
        Ok(Self {
            config,
            reader,
            parties,
        })
    }

    /// What each tenant has, of one or of all.
    pub(super) fn registers(
        &self,
        tenant: Option<&TenantId>,
    ) -> Result<BTreeMap<TenantId, Register>, Failure> {
        let filter = Filter {
            tenant: tenant.map(ToString::to_string),
            ..Filter::default()
        };
        let mut registers: BTreeMap<TenantId, Register> = BTreeMap::new();
        each_entry(&self.reader, filter, |entry| {
            if let Some(tenant) = &entry.posting.tenant {
                registers.entry(tenant.clone()).or_default().take(&entry);
            }
            Ok(())
        })
        .map_err(Failure::failed)?;
        Ok(registers)
    }

    /// The documents of a number: usually one.
    pub(super) fn documents(
        &self,
        number: &str,
        issuer: Option<&str>,
    ) -> Result<Vec<LedgerEntry>, Failure> {
        let mut found = Vec::new();
        for kind in [EntryKind::Invoice, EntryKind::CreditNote] {
            let filter = Filter {
                kind: Some(kind.as_str().to_owned()),
                ..Filter::default()
            };
            each_entry(&self.reader, filter, |entry| {
                let document = entry.posting.document.as_ref();
                if document.is_some_and(|document| {
                    document.number == number
                        && issuer.is_none_or(|issuer| document.issuer == issuer)
                }) {
                    found.push(entry);
                }
                Ok(())
            })
            .map_err(Failure::failed)?;
        }
        Ok(found)
    }

    fn party(&self, digest: Option<Digest>) -> Result<Option<Party>, Failure> {
        let (Some(parties), Some(digest)) = (&self.parties, digest) else {
            return Ok(None);
        };
        let snapshot = parties.snapshot(digest).map_err(Failure::failed)?;
        Ok(snapshot.and_then(|snapshot| match snapshot {
            Snapshot::Kept(party) => Some(party),
            Snapshot::Erased(_) => None,
        }))
    }

    /// A document with all that it says.
    pub(super) fn document(
        &self,
        entry: &LedgerEntry,
        register: &Register,
    ) -> Result<Invoice, Failure> {
        let document = entry.posting.document.as_ref();
        let parts = Parts {
            seller: self.party(document.and_then(|document| document.seller))?,
            buyer: self.party(document.and_then(|document| document.buyer))?,
        };
        let voided_by = register.voided_by(entry);
        let find = |at: EntryRef| {
            let after = at.index.checked_sub(1)?;
            let mut found = self.reader.ledger_chain(at.partition, after, 1).ok()?;
            found.pop().filter(|entry| entry.at == at)
        };
        let invoice = invoice::issued(entry, parts, voided_by, find).map_err(Failure::failed)?;
        Ok(invoice.with_unused(register.unused(entry)))
    }

    pub(super) fn register_of(&self, entry: &LedgerEntry) -> Result<Register, Failure> {
        let mut registers = self.registers(entry.posting.tenant.as_ref())?;
        let tenant = entry.posting.tenant.as_ref();
        Ok(tenant
            .and_then(|tenant| registers.remove(tenant))
            .unwrap_or_default())
    }
}
