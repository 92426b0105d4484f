//! The cluster's secret, and the keys that follow from it.
//!
//! A cluster has one secret of 32 random bytes. An Ed25519 key for each role follows from it. A
//! [`Token`] holds one role's own key and the public keys of all three: whoever has it can prove
//! that role, can tell the others by their keys, and cannot act as another. Only the scheduler
//! keeps the secret itself.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use manyhands_proto::frame::Role;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};
use thiserror::Error;

/// Name of the file that keeps the secret, in the scheduler's state directory.
pub const SECRET_FILE: &str = "cluster.secret";

/// Bytes of a key, a seed or a secret.
pub(crate) const KEY: usize = 32;
const VERSION: u8 = 1;
const TOKEN: usize = 2 + 4 * KEY;
/// Files larger than this hold no secret.
const FILE_LIMIT: u64 = 4096;
const ROLES: [Role; 3] = [Role::Scheduler, Role::Worker, Role::Client];

/// What all keys of a cluster follow from.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterSecret([u8; KEY]);

/// What one role needs to take part in a cluster. It is a secret: whoever has it can act as its
/// role. Its text is base64url.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    role: Role,
    seed: [u8; KEY],
    publics: [[u8; KEY]; 3],
}

/// Why there is no secret.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The file cannot be read or written.
    #[error("the cluster's secret {path} cannot be {what}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The text is not that of a secret.
    #[error("{0} is not a cluster's secret: 32 bytes in base64url (43 characters) were expected")]
    Malformed(String),
    /// The operating system gives no random numbers.
    #[error("no secret can be made: the operating system gives no random bytes")]
    NoRandom,
}

/// Why a text is not a token. The text itself is never shown, since it may be nearly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// Not the right characters.
    #[error("the token has characters that are not base64url: was it cut or wrapped?")]
    Alphabet,
    /// Not the right length.
    #[error("the token has {0} bytes instead of {TOKEN}: was it cut?")]
    Length(usize),
    /// Of a later version.
    #[error("the token is of version {0}, this software reads version {VERSION}: upgrade it")]
    Version(u8),
    /// Of no role that is known.
    #[error("the token is of an unknown role ({0})")]
    Role(u8),
    /// Its parts do not fit each other.
    #[error("the token is damaged: its key is not the key of its role")]
    Damaged,
}

impl ClusterSecret {
    /// A new one, from the operating system's random numbers.
    pub fn generate() -> Result<ClusterSecret, SecretError> {
        let mut bytes = [0; KEY];
        SystemRandom::new().fill(&mut bytes).map_err(|_| SecretError::NoRandom)?;
        Ok(ClusterSecret(bytes))
    }

    /// This one. The bytes must be random.
    pub fn from_bytes(bytes: [u8; KEY]) -> ClusterSecret {
        ClusterSecret(bytes)
    }

    /// Reads the file that [`ClusterSecret::store`] wrote.
    pub fn load(path: &Path) -> Result<ClusterSecret, SecretError> {
        let fail = |source| SecretError::File { path: path.into(), what: "read", source };
        if fs::metadata(path).map_err(fail)?.len() > FILE_LIMIT {
            return Err(SecretError::Malformed(path.display().to_string()));
        }
        let text = fs::read_to_string(path).map_err(fail)?;
        text.parse().map_err(|_| SecretError::Malformed(path.display().to_string()))
    }

    /// Reads the secret of a state directory, or makes one there, readable for its owner alone. The
    /// directory is made if need be.
    pub fn load_or_create(dir: &Path) -> Result<ClusterSecret, SecretError> {
        let path = dir.join(SECRET_FILE);
        match ClusterSecret::load(&path) {
            Err(SecretError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let fail = |source| SecretError::File { path: dir.into(), what: "stored", source };
        fs::create_dir_all(dir).map_err(fail)?;
        let secret = ClusterSecret::generate()?;
        match secret.store(&path) {
            // Another scheduler was faster: its secret counts.
            Err(SecretError::File { source, .. })
                if source.kind() == io::ErrorKind::AlreadyExists =>
            {
                ClusterSecret::load(&path)
            }
            other => other.map(|()| secret),
        }
    }

    /// Writes a file that must not exist yet, readable for its owner alone. It is never seen half
    /// written.
    pub fn store(&self, path: &Path) -> Result<(), SecretError> {
        let fail = |source| SecretError::File { path: path.into(), what: "stored", source };
        let draft = path.with_extension(format!("draft-{}", std::process::id()));
        let written = (|| {
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            file.write_all(format!("{}\n", BASE64URL_NOPAD.encode(&self.0)).as_bytes())?;
            file.sync_all()?;
            // A link fails where a rename would replace.
            fs::hard_link(&draft, path)
        })();
        // A draft that cannot be removed harms nobody: it is as private as the secret.
        let _ = fs::remove_file(&draft);
        written.map_err(fail)
    }

    /// The token of a role.
    pub fn token(&self, role: Role) -> Token {
        let publics = ROLES.map(|role| public_key(&self.seed(role)));
        Token { role, seed: self.seed(role), publics }
    }

    fn seed(&self, role: Role) -> [u8; KEY] {
        let label = match role {
            Role::Scheduler => "manyhands scheduler key v1",
            Role::Worker => "manyhands worker key v1",
            Role::Client => "manyhands client key v1",
        };
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), label.as_bytes());
        let mut seed = [0; KEY];
        seed.copy_from_slice(tag.as_ref());
        seed
    }
}

impl FromStr for ClusterSecret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<ClusterSecret, SecretError> {
        let bytes = BASE64URL_NOPAD.decode(text.trim().as_bytes()).ok();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(ClusterSecret).ok_or_else(|| SecretError::Malformed("the text".to_owned()))
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(..)")
    }
}

impl Token {
    /// What its owner is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The public key of a role in this cluster.
    pub fn public(&self, role: Role) -> &[u8; KEY] {
        &self.publics[number(role) as usize]
    }

    /// Its own private key.
    pub(crate) fn seed(&self) -> &[u8; KEY] {
        &self.seed
    }

    /// Whose key this is.
    pub fn role_of(&self, public: &[u8]) -> Option<Role> {
        ROLES.into_iter().find(|&role| self.public(role) == public)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(TOKEN);
        bytes.extend([VERSION, number(self.role)]);
        bytes.extend(self.seed);
        bytes.extend(self.publics.as_flattened());
        f.write_str(&BASE64URL_NOPAD.encode(&bytes))
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Token, TokenError> {
        let bytes =
            BASE64URL_NOPAD.decode(text.trim().as_bytes()).map_err(|_| TokenError::Alphabet)?;
        match bytes.first() {
            Some(&VERSION) => {}
            Some(&version) => return Err(TokenError::Version(version)),
            None => return Err(TokenError::Length(0)),
        }
        if bytes.len() != TOKEN {
            return Err(TokenError::Length(bytes.len()));
        }
        let role = ROLES.into_iter().find(|&role| number(role) == bytes[1]);
        let role = role.ok_or(TokenError::Role(bytes[1]))?;
        let mut keys = bytes[2..].chunks_exact(KEY).map(|chunk| {
            let mut key = [0; KEY];
            key.copy_from_slice(chunk);
            key
        });
        let mut next = || keys.next().unwrap_or_default();
        let token = Token { role, seed: next(), publics: [next(), next(), next()] };
        // A seed under a wrong role would fail much later, as a handshake that nobody understands.
        let fits = public_key(&token.seed) == *token.public(role);
        fits.then_some(token).ok_or(TokenError::Damaged)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({:?}, ..)", self.role)
    }
}

fn number(role: Role) -> u8 {
    match role {
        Role::Scheduler => 0,
        Role::Worker => 1,
        Role::Client => 2,
    }
}

fn public_key(seed: &[u8; KEY]) -> [u8; KEY] {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("a seed of 32 bytes makes a key");
    let mut public = [0; KEY];
    public.copy_from_slice(pair.public_key().as_ref());
    public
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn secret() -> ClusterSecret {
        ClusterSecret::from_bytes([7; KEY])
    }

    #[test]
    fn tokens_survive_being_text() {
        for role in ROLES {
            let token = secret().token(role);
            assert_eq!(token.to_string().parse(), Ok(token.clone()));
            assert_eq!(token.role(), role);
            assert_eq!(format!(" {token}\n").parse(), Ok(token), "as pasted");
        }
    }

    #[test]
    fn the_keys_of_a_cluster_never_change() {
        // A worker that was given its token years ago has to be able to come back.
        let token = secret().token(Role::Client);
        let publics = ROLES.map(|role| BASE64URL_NOPAD.encode(token.public(role)));
        assert_eq!(
            publics,
            [
                "W3b3WjblVibCNRUs7UmVSWzZCBofVFn2T-F_uYaBPPo",
                "ngoyYBvJ5XZKTshQvHOe2kcqoLcjUEZYHiI_JhHh2Qw",
                "aVydSAa8iVVHCGGSu8zDlnLLMUWbeW5XX9r2O1RnCVc",
            ]
        );
    }

    #[test]
    fn a_token_of_one_role_does_not_let_act_as_another() {
        let (worker, client) = (secret().token(Role::Worker), secret().token(Role::Client));
        assert_ne!(worker.seed(), client.seed());
        assert_eq!(worker.role_of(client.public(Role::Client)), Some(Role::Client));
        assert_eq!(worker.role_of(&[1; KEY]), None);
        let mut bytes = BASE64URL_NOPAD.decode(client.to_string().as_bytes()).unwrap();
        bytes[1] = number(Role::Worker);
        let forged = BASE64URL_NOPAD.encode(&bytes);
        assert_eq!(forged.parse::<Token>(), Err(TokenError::Damaged));
    }

    #[test]
    fn what_is_not_a_token_is_refused_in_words() {
        let text = secret().token(Role::Worker).to_string();
        assert_eq!(text[..40].parse::<Token>(), Err(TokenError::Length(30)));
        assert_eq!("".parse::<Token>(), Err(TokenError::Length(0)));
        assert_eq!("not a token!".parse::<Token>(), Err(TokenError::Alphabet));
        assert_eq!("Ag".parse::<Token>(), Err(TokenError::Version(2)));
        let mut bytes = BASE64URL_NOPAD.decode(text.as_bytes()).unwrap();
        bytes[1] = 9;
        assert_eq!(BASE64URL_NOPAD.encode(&bytes).parse::<Token>(), Err(TokenError::Role(9)));
    }

    #[test]
    fn secrets_are_not_printed() {
        let token = secret().token(Role::Worker);
        assert_eq!(format!("{token:?}"), "Token(Worker, ..)");
        assert_eq!(format!("{:?}", secret()), "ClusterSecret(..)");
    }

    #[test]
    fn a_secret_is_made_once_and_is_its_owners_alone() {
        let dir = std::env::temp_dir().join(format!("manyhands-keys-{}", std::process::id()));
        let first = ClusterSecret::load_or_create(&dir).unwrap();
        assert_eq!(ClusterSecret::load_or_create(&dir).unwrap(), first);
        let path = dir.join(SECRET_FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "no draft is left");
        fs::write(&path, "hello").unwrap();
        let error = ClusterSecret::load_or_create(&dir).unwrap_err();
        assert!(error.to_string().contains("is not a cluster's secret"), "{error}");
        fs::remove_dir_all(&dir).unwrap();
    }
}
