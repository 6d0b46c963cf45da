//! The command line of `pki`.

use std::path::PathBuf;

use clap::Subcommand;
use tollgate_common::AgentId;

use crate::pki::LEAF_DAYS;

/// `pki`.
#[derive(Debug, Subcommand)]
pub enum PkiCommand {
    /// Make a certificate authority and the collector's certificate.
    #[command(
        long_about = "Makes a certificate authority (ca.pem, ca.key) and the collector's server certificate \
            (collector.pem, collector.key). Keys are ECDSA P-256 with mode 0600. Existing files are not \
            overwritten. Keep ca.key away from the collector's host once the agents have their certificates.",
        after_help = "Examples:\n  tollgate-collector pki init --dir pki\n  \
            tollgate-collector pki init --dir pki --name collector.example.net --name 192.0.2.7"
    )]
    Init {
        /// The folder; made if it does not exist.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// A DNS name or IP address under which agents reach the collector; can be repeated.
        #[arg(long = "name", value_name = "NAME", default_values = ["localhost", "127.0.0.1", "::1"])]
        names: Vec<String>,
        /// Days that the collector's certificate is valid; the authority has ten years at least.
        #[arg(long, default_value_t = LEAF_DAYS, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
        /// Replace existing files. Every certificate of the old authority becomes worthless.
        #[arg(long)]
        force: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make an agent's certificate.
    #[command(
        long_about = "Makes a client certificate (NAME.pem, NAME.key) with the authority in the folder. The \
            certificate's URI name tollgate://agent/NAME is what the collector knows the agent by; what the agent \
            may report is decided by the [[agent]] sections of the collector's configuration.",
        after_help = "Example:\n  tollgate-collector pki issue --dir pki --agent edge-1 --days 90"
    )]
    Issue {
        /// The folder with ca.pem and ca.key.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// The agent's name.
        #[arg(long, value_name = "NAME")]
        agent: AgentId,
        /// Days that the certificate is valid.
        #[arg(long, default_value_t = LEAF_DAYS, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
        /// Replace existing files.
        #[arg(long)]
        force: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Revoke an agent's certificate.
    #[command(
        long_about = "Adds an agent's certificate to the folder's list of revoked ones and signs the list with the \
            authority (crl.pem). The collector reads the list that tls.crl names again within seconds of a change: \
            it ends the connections of revoked certificates and admits no new ones. To shut out an agent whatever \
            its certificate, remove its [[agent]] section and reload.",
        after_help = "Examples:\n  tollgate-collector pki revoke --dir pki --agent edge-1\n  \
            tollgate-collector pki revoke --dir pki --certificate lost.pem"
    )]
    Revoke {
        /// The folder with ca.pem and ca.key.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// The agent whose certificate is in the folder.
        #[arg(long, value_name = "NAME", required_unless_present = "certificate")]
        agent: Option<AgentId>,
        /// The certificate, where the folder has another one of the agent or none. With --agent it must
        /// be that agent's.
        #[arg(long, value_name = "FILE")]
        certificate: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}
