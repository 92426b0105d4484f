//! One connection from the opener's side, up to the scheduler's answer.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use manyhands_proto::frame::{FrameError, Hello, Role};
use manyhands_proto::link::{Join, Open, Opened};
use quinn::{ClientConfig, ConnectError, Connection, ConnectionError};
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::task::JoinSet;

use super::carry::{Channel, GOODBYE};
use super::frames::{Frames, ReadFailure, encode, encode_hello};
use crate::address::Address;
use crate::quic::{self, Settings};

/// How long an address has a lead over the next one of the same host.
const LEAD: Duration = Duration::from_millis(150);
/// Addresses of a host that are tried.
const ADDRESSES: usize = 8;

/// Whom to call, and as what.
#[derive(Clone, Debug)]
pub struct Dial {
    /// Where the scheduler is, with a token of the role that joins.
    pub address: Address,
    /// This node's name, for people.
    pub node: String,
    /// As what.
    pub join: Join,
    /// How long to try to open the session. A session that is open has the scheduler's grace time to
    /// come back.
    pub patience: Duration,
    /// How the connection behaves.
    pub settings: Settings,
}

impl Dial {
    /// With the settings of a local network, and five seconds of patience.
    pub fn new(address: Address, node: impl Into<String>, join: Join) -> Dial {
        let patience = Duration::from_secs(5);
        Dial { address, node: node.into(), join, patience, settings: Settings::default() }
    }

    fn role(&self) -> Role {
        match self.join {
            Join::Client { .. } => Role::Client,
            Join::Worker(_) => Role::Worker,
        }
    }
}

/// Why there is no session.
#[derive(Debug, Error)]
pub enum DialError {
    /// The address has no token.
    #[error(
        "there is no token for the scheduler at {0}: use the whole line that it printed \
         (manyhands://TOKEN@HOST:PORT), or set MANYHANDS_TOKEN or MANYHANDS_TOKEN_FILE"
    )]
    NoToken(String),
    /// The token is of another role.
    #[error(
        "the token is for a {has}, and this is a {is}: use the other line that the scheduler printed"
    )]
    WrongRole {
        /// The token's.
        has: Role,
        /// Ours.
        is: Role,
    },
    /// The host's name leads nowhere.
    #[error("the scheduler's host {host} cannot be found: {source}")]
    Unresolved {
        /// The name.
        host: String,
        /// Why not.
        source: io::Error,
    },
    /// There is no socket to be had, or no way to the address.
    #[error("the scheduler at {place} cannot be called: {source}")]
    Socket {
        /// Where.
        place: String,
        /// Why not.
        source: io::Error,
    },
    /// Nobody answers.
    #[error("nobody answers at {place} ({why}): does the scheduler run there, and may UDP pass?")]
    Unreachable {
        /// Where.
        place: String,
        /// What happened.
        why: String,
    },
    /// One side's key is not of the other's cluster.
    #[error(
        "the scheduler at {place} is of another cluster than the token, or the token is not valid \
         there ({why})"
    )]
    Identity {
        /// Where.
        place: String,
        /// What TLS said.
        why: String,
    },
    /// It speaks another version, or not this protocol.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It said no.
    #[error("the scheduler at {place} refused: {message}")]
    Refused {
        /// Where.
        place: String,
        /// Why, and what to do.
        message: String,
        /// The session that was asked for is over.
        over: bool,
    },
}

impl DialError {
    /// Whether it could be otherwise in a moment.
    pub(super) fn may_pass(&self) -> bool {
        matches!(
            self,
            DialError::Unresolved { .. } | DialError::Socket { .. } | DialError::Unreachable { .. }
        )
    }
}

/// Makes connections to one scheduler.
pub(super) struct Dialer {
    dial: Dial,
    config: ClientConfig,
}

impl Dialer {
    pub(super) fn new(dial: Dial) -> Result<Dialer, DialError> {
        let Some(token) = &dial.address.token else {
            return Err(DialError::NoToken(dial.address.place()));
        };
        if token.role() != dial.role() {
            return Err(DialError::WrongRole { has: token.role(), is: dial.role() });
        }
        let config = quic::client_config(token, Role::Scheduler, &dial.settings);
        Ok(Dialer { dial, config })
    }

    pub(super) fn dial(&self) -> &Dial {
        &self.dial
    }

    pub(super) fn place(&self) -> String {
        self.dial.address.place()
    }

    /// A connection and the scheduler's answer, which is not a refusal.
    pub(super) async fn call(&self, open: Open) -> Result<(Channel, Opened), DialError> {
        let connection = self.connect().await?;
        let (send, stream) = connection.open_bi().await.map_err(|error| self.failure(&error))?;
        let mut channel = Channel { connection, send, frames: Frames::new(stream) };
        let mut introduction = Vec::new();
        encode_hello(&Hello::own(self.dial.node.clone(), self.dial.role()), &mut introduction);
        introduction.extend(encode(&open)?);
        // What a failed write means is found out by reading.
        let _ = channel.send.write_all(&introduction).await;
        let body = self.read(&mut channel).await?;
        let hello = Hello::from_bytes(&body).inspect_err(|error| {
            channel.close(GOODBYE, &error.to_string());
        })?;
        if hello.role != Role::Scheduler {
            return Err(self.refused(format!("it is a {}", hello.role), false));
        }
        let opened = parse(&self.read(&mut channel).await?)?;
        channel.frames.opened();
        match opened {
            Opened::Refused { message, over } => Err(self.refused(message, over)),
            opened => Ok((channel, opened)),
        }
    }

    async fn read(&self, channel: &mut Channel) -> Result<bytes::Bytes, DialError> {
        match channel.frames.next().await {
            Ok(Some(body)) => Ok(body),
            Err(ReadFailure::Frame(error)) => Err(error.into()),
            // The scheduler says why when it closes.
            Ok(None) | Err(_) => Err(self.failure(&channel.connection.closed().await)),
        }
    }

    /// Calls all addresses of the host, each a little after the one before; the first that answers
    /// counts.
    async fn connect(&self) -> Result<Connection, DialError> {
        let mut calls = JoinSet::new();
        for (order, address) in self.resolve().await?.into_iter().take(ADDRESSES).enumerate() {
            let endpoint = quic::bind(quic::unbound(address), None, &self.dial.settings)
                .map_err(|source| self.no_socket(source))?;
            let config = self.config.clone();
            calls.spawn(async move {
                tokio::time::sleep(LEAD * order as u32).await;
                let connecting = endpoint
                    .connect_with(config, address, quic::SERVER_NAME)
                    .map_err(Failure::Connect)?;
                connecting.await.map_err(Failure::Connection)
            });
        }
        let mut worst = None;
        while let Some(call) = calls.join_next().await {
            match call {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(Failure::Connection(error))) => {
                    let error = self.failure(&error);
                    // A scheduler of another cluster tells more than silence.
                    if worst.as_ref().is_none_or(DialError::may_pass) {
                        worst = Some(error);
                    }
                }
                Ok(Err(Failure::Connect(error))) => {
                    worst.get_or_insert(self.no_socket(io::Error::other(error)));
                }
                Err(_) => {}
            }
        }
        Err(worst.unwrap_or_else(|| self.no_socket(io::ErrorKind::AddrNotAvailable.into())))
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, DialError> {
        let Address { host, port, .. } = &self.dial.address;
        let fail = |source| DialError::Unresolved { host: host.clone(), source };
        Ok(tokio::net::lookup_host((host.as_str(), *port)).await.map_err(fail)?.collect())
    }

    fn no_socket(&self, source: io::Error) -> DialError {
        DialError::Socket { place: self.place(), source }
    }

    fn refused(&self, message: String, over: bool) -> DialError {
        DialError::Refused { place: self.place(), message, over }
    }

    /// What the end of a connection means for whoever wanted to open a session.
    fn failure(&self, error: &ConnectionError) -> DialError {
        let place = self.place();
        let is_tls = |code: u64| (0x100..0x200).contains(&code);
        match error {
            ConnectionError::TransportError(error) if is_tls(error.code.into()) => {
                DialError::Identity { place, why: error.to_string() }
            }
            ConnectionError::ConnectionClosed(close) if is_tls(close.error_code.into()) => {
                DialError::Identity { place, why: close.to_string() }
            }
            ConnectionError::ApplicationClosed(close) if !close.reason.is_empty() => {
                self.refused(String::from_utf8_lossy(&close.reason).into_owned(), false)
            }
            ConnectionError::TimedOut => {
                DialError::Unreachable { place, why: "no answer".to_owned() }
            }
            error => DialError::Unreachable { place, why: error.to_string() },
        }
    }
}

enum Failure {
    Connect(ConnectError),
    Connection(ConnectionError),
}

fn parse<M: DeserializeOwned>(body: &[u8]) -> Result<M, FrameError> {
    Ok(rmp_serde::from_slice(body)?)
}
