//! Why a connection ends.

use tollgate_common::AgentId;
use tollgate_common::wire::RefuseCode;

use crate::entry::codec::EncodeError;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The hello names another agent than the certificate.
    #[error("the certificate is that of agent `{certificate}`, the {message} names `{named}`")]
    Identity {
        /// The agent of the certificate.
        certificate: AgentId,
        /// The agent that is named.
        named: AgentId,
        /// In which kind of message.
        message: &'static str,
    },
    /// The policy has no rule for the agent.
    #[error(
        "agent `{0}` is not known here; add an [[agent]] entry for it to the collector's configuration"
    )]
    UnknownAgent(AgentId),
    /// No common version.
    #[error("{0}")]
    Version(String),
    /// The rules of the protocol are broken.
    #[error("protocol: {0}")]
    Protocol(String),
    /// No hello came in time.
    #[error("no hello within {0} ms")]
    HelloTimeout(i64),
    /// An entry could not be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl SessionError {
    /// The code by which the agent is told.
    pub fn code(&self) -> RefuseCode {
        match self {
            Self::Identity { .. } => RefuseCode::Identity,
            Self::UnknownAgent(_) => RefuseCode::UnknownAgent,
            Self::Version(_) => RefuseCode::Version,
            Self::Protocol(_) | Self::HelloTimeout(_) => RefuseCode::Protocol,
            Self::Encode(_) => RefuseCode::Internal,
        }
    }
}
