//! The commands of `tollgate-collector`.

mod accruals;
pub mod args;
mod bill;
mod books;
mod catalog;
mod check;
mod invoice;
mod journal;
mod ledger;
mod load;
mod logs;
mod operate;
mod output;
mod period;
mod pki;
mod rate;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;

use crate::run::RunError;
use args::{Cli, Command, ConfigArgs, LedgerCommand, PeriodCommand, PkiCommand};
use output::Output;

/// How long tasks get to end when a command is done.
const RUNTIME_FAREWELL: Duration = Duration::from_secs(3);

/// What scripts can tell from the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A difference was found: verification, closing pack, reconciliation.
    Unverified = 3,
    /// Usage is not rated.
    Unrated = 4,
    /// The journal could not be written (`EX_IOERR`); starting again recovers.
    Journal = 74,
    /// The configuration, the catalog or a certificate file is wrong (`EX_CONFIG`).
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it should.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    /// Every mistake, in the order in which it is shown; at least one.
    reports: Vec<miette::Report>,
}

impl Failure {
    fn new(exit: Exit, error: impl std::fmt::Display) -> Self {
        Self {
            exit,
            reports: vec![miette::Report::msg(error.to_string())],
        }
    }

    /// All mistakes for a log.
    fn text(&self) -> String {
        let texts: Vec<_> = self.reports.iter().map(|r| format!("{r:?}")).collect();
        texts.join("\n")
    }

    fn failed(error: impl std::fmt::Display) -> Self {
        Self::new(Exit::Failed, error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error)
    }
}

/// Runs the command line `args`, whose first element is the program's name.
pub fn main_from<I, T>(args: I) -> ExitCode
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version count as errors of the parser and are none.
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
            let _ = error.print();
            return exit.into();
        }
    };
    match logs::init(&cli).and_then(|()| dispatch(cli.command)) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output::complain(&failure.text());
            failure.exit.into()
        }
    }
}

/// `pki`.
fn certificates(command: PkiCommand) -> Result<Exit, Failure> {
    match command {
        PkiCommand::Init {
            dir,
            names,
            days,
            force,
            json,
        } => pki::init(
            &crate::pki::Init {
                dir,
                names,
                days,
                force,
            },
            Output::new(json),
        ),
        PkiCommand::Issue {
            dir,
            agent,
            days,
            force,
            json,
        } => pki::issue(&dir, &agent, days, force, Output::new(json)),
        PkiCommand::Revoke {
            dir,
            agent,
            certificate,
            json,
        } => pki::revoke(
            &dir,
            agent.as_ref(),
            certificate.as_deref(),
            Output::new(json),
        ),
    }
}

/// `period`.
fn periods(command: PeriodCommand) -> Result<Exit, Failure> {
    match command {
        PeriodCommand::List {
            output,
            tenant,
            from,
            to,
        } => period::list(&output, tenant.as_ref(), from.as_deref(), to.as_deref()),
        PeriodCommand::Status {
            output,
            tenant,
            over,
        } => period::status_of(&output, tenant, over),
        PeriodCommand::Rerate {
            output,
            tenant,
            from,
            to,
            by: catalog,
            decision,
        } => {
            let request = crate::fold::operate::OperateRequest::Rerate {
                tenant,
                from,
                to,
                catalog,
            };
            operate::decide(&output, request, decision)
        }
        PeriodCommand::Close {
            output,
            tenant,
            at,
            reason,
            author,
        } => {
            let request = crate::serve::admin::AdminRequest::ClosePeriod {
                tenant,
                at,
                author,
                reason,
            };
            period::close(&output, &request)
        }
    }
}

/// `ledger`.
fn ledger_of(command: LedgerCommand) -> Result<Exit, Failure> {
    match command {
        LedgerCommand::List {
            output,
            tenant,
            meter,
            kind,
            from,
            to,
        } => {
            let filter = load::filter(from.as_deref(), to.as_deref())?;
            let filter = crate::sqlite::query::Filter {
                tenant: tenant.map(|tenant| tenant.to_string()),
                meter: meter.map(|meter| meter.to_string()),
                kind,
                ..filter
            };
            ledger::list(&output, filter)
        }
        LedgerCommand::Verify(output) => ledger::verify(&output),
        LedgerCommand::Pack {
            output,
            from,
            to,
            tenant,
        } => books::closing_pack(&output, &from, &to, tenant.as_ref()),
        LedgerCommand::Line {
            output,
            line,
            decision,
        } => books::line(&output, line, &decision, false),
        LedgerCommand::Credit {
            output,
            line,
            decision,
        } => books::line(&output, line, &decision, true),
        LedgerCommand::Hold {
            output,
            entry,
            tenant,
            decision,
        } => books::hold(&output, &entry, tenant, &decision, true),
        LedgerCommand::Release {
            output,
            entry,
            tenant,
            decision,
        } => books::hold(&output, &entry, tenant, &decision, false),
    }
}

fn dispatch(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Run(options) => run(options.into()),
        Command::Check(args) => check::check(&args),
        Command::Catalog(command) => catalog::run(command),
        Command::Rate {
            catalog,
            tenant,
            usage,
            period,
            json,
        } => rate::rate(
            &catalog,
            tenant.as_ref(),
            &usage,
            period.as_deref(),
            Output::new(json),
        ),
        Command::Pki(command) => certificates(command),
        Command::Period(command) => periods(command),
        Command::Accruals { output, tenant } => accruals::accruals(&output, tenant),
        Command::Ledger(command) => ledger_of(command),
        Command::Usage(command) => operate::usage(command),
        Command::Agent(command) => operate::agent(command),
        Command::Invoice(command) => invoice::run(command),
        Command::Party(command) => books::party(command),
        Command::Approval(command) => books::approval(command),
        Command::Reconcile(args) => books::reconcile(&args),
        Command::Journal(args::JournalCommand::Inspect {
            output,
            after,
            limit,
            rows,
        }) => journal::inspect(&output, after.as_deref(), limit, rows),
        Command::Journal(args::JournalCommand::Restored {
            output,
            reason,
            author,
        }) => journal::restored(&output, author, reason),
        Command::Status(output) => period::status(&output),
    }
}

/// A runtime for the commands that need one.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?)
}

fn run(args: ConfigArgs) -> Result<Exit, Failure> {
    let config = load::config(&args)?;
    let reread = Arc::new(move || load::config(&args).map_err(|failure| failure.text()));
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let shutdown = async {
            if let Err(error) = crate::run::termination().await {
                tracing::error!(%error, "cannot handle SIGTERM; stop with SIGKILL");
                std::future::pending::<()>().await;
            }
        };
        crate::run::run_with_reread(config, reread, shutdown).await
    });
    runtime.shutdown_timeout(RUNTIME_FAREWELL);
    match result {
        Ok(()) | Err(RunError::Interrupted) => Ok(Exit::Done),
        Err(RunError::Inputs(error)) => Err(load::input_failure(&error)),
        Err(error @ RunError::Journal(_)) => Err(Failure::new(Exit::Journal, error)),
        Err(error) => Err(Failure::failed(error)),
    }
}
