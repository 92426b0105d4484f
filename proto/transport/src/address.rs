//! Where a scheduler is, and what proves that one may talk to it: `manyhands://TOKEN@HOST:PORT`.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

use crate::keys::{Token, TokenError};

/// The port that a scheduler listens on if it is not told another.
pub const DEFAULT_PORT: u16 = 7470;

/// The variable that holds an address for clients.
pub const ADDRESS_VARIABLE: &str = "MANYHANDS_ADDRESS";
/// The variable that holds a token, for addresses without one.
pub const TOKEN_VARIABLE: &str = "MANYHANDS_TOKEN";
/// The variable that names a file with a token, for addresses without one.
pub const TOKEN_FILE_VARIABLE: &str = "MANYHANDS_TOKEN_FILE";

const SCHEME: &str = "manyhands://";

/// Where a scheduler is. Its text is `manyhands://TOKEN@HOST:PORT`, or `HOST:PORT` without a token;
/// the port may be left out. Its `Debug` hides the token, its `Display` does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name or an IP address.
    pub host: String,
    /// UDP port.
    pub port: u16,
    /// What proves the role of whoever connects.
    pub token: Option<Token>,
}

/// Why a text is no address.
#[derive(Debug, Error)]
pub enum AddressError {
    /// There is no host in it.
    #[error("the address names no host: manyhands://TOKEN@HOST:PORT or HOST:PORT was expected")]
    NoHost,
    /// The port is not one.
    #[error("{0:?} is not a port: a number from 1 to 65535 was expected")]
    Port(String),
    /// Something else than `manyhands://`.
    #[error("the address begins with {0:?}: manyhands:// was expected")]
    Scheme(String),
    /// The token in it is not one.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The file with the token cannot be read.
    #[error("the token file {path} (from MANYHANDS_TOKEN_FILE) cannot be read: {source}")]
    TokenFile {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Address {
    /// The address in `MANYHANDS_ADDRESS`, if there is one, with a token from the environment if it
    /// has none of its own.
    pub fn from_env() -> Result<Option<Address>, AddressError> {
        let Some(text) = variable(ADDRESS_VARIABLE) else { return Ok(None) };
        text.parse::<Address>()?.complete().map(Some)
    }

    /// Takes a missing token from `MANYHANDS_TOKEN`, or from the file that `MANYHANDS_TOKEN_FILE`
    /// names. Without these the address stays as it is.
    pub fn complete(mut self) -> Result<Address, AddressError> {
        if self.token.is_some() {
            return Ok(self);
        }
        if let Some(text) = variable(TOKEN_VARIABLE) {
            self.token = Some(text.parse()?);
        } else if let Some(path) = variable(TOKEN_FILE_VARIABLE) {
            let path = PathBuf::from(path);
            let text = std::fs::read_to_string(&path)
                .map_err(|source| AddressError::TokenFile { path, source })?;
            self.token = Some(text.parse()?);
        }
        Ok(self)
    }

    /// The IP addresses of the host. Waits for the name service unless the host is a number.
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let found: Vec<_> = (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        if found.is_empty() {
            let text = format!("{} has no address", self.host);
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        Ok(found)
    }

    /// `HOST:PORT`: what may be shown to anybody.
    pub fn place(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// A variable that is there and not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let text = text.trim();
        let rest = match text.split_once("://") {
            Some(("manyhands", rest)) => rest.trim_end_matches('/'),
            Some((scheme, _)) => return Err(AddressError::Scheme(format!("{scheme}://"))),
            None => text,
        };
        let (token, place) = match rest.rsplit_once('@') {
            Some((token, place)) => (Some(token.parse()?), place),
            None => (None, rest),
        };
        let (host, port) = split_place(place)?;
        if host.is_empty() {
            return Err(AddressError::NoHost);
        }
        Ok(Address { host: host.to_owned(), port, token })
    }
}

/// `HOST`, `HOST:PORT`, `[V6]` or `[V6]:PORT`; a bare IPv6 address has no port.
fn split_place(place: &str) -> Result<(&str, u16), AddressError> {
    let (host, port) = if let Some(rest) = place.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(AddressError::NoHost)?;
        (host, rest.strip_prefix(':'))
    } else {
        match place.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, Some(port)),
            Some(_) => (place, None),
            None => (place, None),
        }
    };
    let Some(text) = port else { return Ok((host, DEFAULT_PORT)) };
    match text.parse() {
        Ok(port) if port != 0 => Ok((host, port)),
        _ => Err(AddressError::Port(text.to_owned())),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.token {
            Some(token) => write!(f, "{SCHEME}{token}@{}", self.place()),
            None => f.write_str(&self.place()),
        }
    }
}

#[cfg(test)]
mod tests {
    use manyhands_proto::frame::Role;

    use super::*;
    use crate::keys::ClusterSecret;

    #[test]
    fn addresses_survive_being_text() {
        let token = ClusterSecret::from_bytes([3; 32]).token(Role::Worker);
        for host in ["example.org", "10.0.0.7", "::1"] {
            for token in [None, Some(token.clone())] {
                let address = Address { host: host.to_owned(), port: 7471, token };
                assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
            }
        }
    }

    #[test]
    fn the_port_may_be_left_out() {
        for (text, host) in [("a", "a"), ("[::1]", "::1"), ("fe80::1", "fe80::1")] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.host.as_str(), address.port), (host, DEFAULT_PORT));
        }
        assert_eq!("manyhands://a/".parse::<Address>().unwrap().port, DEFAULT_PORT);
    }

    #[test]
    fn what_is_not_an_address_is_refused_in_words() {
        for (text, words) in [
            ("", "names no host"),
            (":7470", "names no host"),
            ("a:b", "\"b\" is not a port"),
            ("a:0", "\"0\" is not a port"),
            ("a:70000", "is not a port"),
            ("http://a", "begins with \"http://\""),
            ("manyhands://x@a:1", "the token"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn the_token_is_not_shown_by_accident() {
        let token = ClusterSecret::from_bytes([3; 32]).token(Role::Client);
        let address = Address { host: "a".to_owned(), port: 1, token: Some(token.clone()) };
        assert!(!format!("{address:?}").contains(&token.to_string()));
        assert_eq!(address.place(), "a:1");
    }
}
