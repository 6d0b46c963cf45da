//! Options that say where things are: a command offers those that matter to it, and no others.

use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

/// What stands above the keys of the configuration file.
#[derive(Clone, Debug, Default)]
pub struct ConfigArgs {
    /// The configuration file.
    pub config: PathBuf,
    /// Instead of the file's `data_dir`.
    pub data_dir: Option<PathBuf>,
    /// Instead of the file's `listen`.
    pub listen: Option<SocketAddr>,
    /// Instead of the file's `http`.
    pub http: Option<SocketAddr>,
    /// Instead of the file's `catalog`.
    pub catalog: Option<PathBuf>,
    /// Instead of the file's `admin_socket`.
    pub admin_socket: Option<PathBuf>,
}

/// Which configuration, and how to print.
#[derive(Clone, Debug, Default)]
pub struct OutputArgs {
    /// Which configuration.
    pub config: ConfigArgs,
    /// Print JSON.
    pub json: bool,
}

/// A set of options.
pub trait Options: Args {
    /// Sets what the command line or the environment says.
    fn set(self, args: &mut ConfigArgs);
}

/// The configuration and its data folder: for commands that read it.
#[derive(Debug, Args)]
pub struct FolderOptions {
    /// The configuration file.
    #[arg(
        long,
        env = "TOLLGATE_COLLECTOR_CONFIG",
        default_value = "/etc/tollgate/tollgate-collector.toml",
        value_name = "FILE"
    )]
    config: PathBuf,

    /// Where the journal, the snapshots and the projection are, instead of the file's `data_dir`.
    #[arg(long, env = "TOLLGATE_COLLECTOR_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Options for FolderOptions {
    fn set(self, args: &mut ConfigArgs) {
        args.config = self.config;
        args.data_dir = self.data_dir;
    }
}

/// The same with the admin socket: for commands that ask the running collector.
#[derive(Debug, Args)]
pub struct SocketOptions {
    #[command(flatten)]
    folder: FolderOptions,

    /// The admin socket, instead of the file's `admin_socket`.
    #[arg(long, env = "TOLLGATE_COLLECTOR_ADMIN_SOCKET", value_name = "PATH")]
    admin_socket: Option<PathBuf>,
}

impl Options for SocketOptions {
    fn set(self, args: &mut ConfigArgs) {
        self.folder.set(args);
        args.admin_socket = self.admin_socket;
    }
}

/// Another set with the folder of the catalog: for commands that compare or apply it.
#[derive(Debug, Args)]
pub struct WithCatalog<T: Args> {
    #[command(flatten)]
    others: T,

    /// The catalog folder, instead of the file's `catalog`.
    #[arg(long, env = "TOLLGATE_COLLECTOR_CATALOG", value_name = "DIR")]
    catalog: Option<PathBuf>,
}

impl<T: Options> Options for WithCatalog<T> {
    fn set(self, args: &mut ConfigArgs) {
        self.others.set(args);
        args.catalog = self.catalog;
    }
}

/// Everything: for `run` and `check`.
#[derive(Debug, Args)]
pub struct RunOptions {
    #[command(flatten)]
    others: WithCatalog<SocketOptions>,

    /// Where agents connect (QUIC), instead of the file's `listen`.
    #[arg(long, env = "TOLLGATE_COLLECTOR_LISTEN", value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,

    /// Where HTTP is served, instead of the file's `http`.
    #[arg(long, env = "TOLLGATE_COLLECTOR_HTTP", value_name = "ADDRESS:PORT")]
    http: Option<SocketAddr>,
}

impl Options for RunOptions {
    fn set(self, args: &mut ConfigArgs) {
        self.others.set(args);
        args.listen = self.listen;
        args.http = self.http;
    }
}

impl From<RunOptions> for ConfigArgs {
    fn from(options: RunOptions) -> Self {
        let mut args = Self::default();
        options.set(&mut args);
        args
    }
}

/// What a command gets that offers the options `T` and `--json`.
pub struct Offered<T> {
    args: OutputArgs,
    offers: PhantomData<fn() -> T>,
}

/// Of a command that reads the data folder.
pub type Reads = Offered<FolderOptions>;
/// Of a command that asks the running collector.
pub type Asks = Offered<SocketOptions>;
/// Of a command that reads the data folder and the catalog's.
pub type ReadsCatalog = Offered<WithCatalog<FolderOptions>>;
/// Of the command that hands the catalog to the running collector.
pub type AppliesCatalog = Offered<WithCatalog<SocketOptions>>;
/// Of the command that looks at everything.
pub type Checks = Offered<RunOptions>;

impl<T> Deref for Offered<T> {
    type Target = OutputArgs;

    fn deref(&self) -> &OutputArgs {
        &self.args
    }
}

impl<T> Clone for Offered<T> {
    fn clone(&self) -> Self {
        Self {
            args: self.args.clone(),
            offers: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Offered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.args.fmt(f)
    }
}

const JSON: &str = "json";

impl<T: Options> FromArgMatches for Offered<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = OutputArgs {
            json: matches.get_flag(JSON),
            ..OutputArgs::default()
        };
        T::from_arg_matches(matches)?.set(&mut args.config);
        Ok(Self {
            args,
            offers: PhantomData,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<T: Options> Args for Offered<T> {
    fn augment_args(command: Command) -> Command {
        let json = Arg::new(JSON).long(JSON).action(ArgAction::SetTrue);
        T::augment_args(command).arg(json.help("Print JSON"))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
