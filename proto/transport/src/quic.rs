//! QUIC between machines: endpoints, and who may talk to whom.
//!
//! Both sides of a connection prove their role by an Ed25519 key of the cluster, as raw public keys
//! (RFC 7250) in TLS 1.3. A peer without one is refused within the handshake: none of its data is
//! ever looked at.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use manyhands_proto::frame::Role;
use quinn::congestion::CubicConfig;
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig,
    ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use rustix::net::sockopt;

use crate::keys::Token;

mod identity;

/// The application protocol that both sides name in the handshake.
pub const ALPN: &[u8] = b"manyhands";

/// The name that is sent where TLS wants one. Keys and not names are checked.
pub const SERVER_NAME: &str = "manyhands";

/// The largest UDP payload (bytes) that is ever sent. quinn hands ten segments at once to the
/// kernel, and ten of these just fit into the largest datagram: above, it falls back to 1,200.
pub const MTU_LIMIT: u16 = 6_500;

/// Bytes that the kernel may keep for a socket, each way.
const SOCKET_BUFFER: usize = 4 << 20;

/// How connections behave. The two sides need not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The largest UDP payload (bytes) that is tried: what the path does not carry is found out. At
    /// least 1,200, at most [`MTU_LIMIT`].
    pub mtu: u16,
    /// How often the opener of a connection shows that it lives.
    pub keep_alive: Duration,
    /// Silence after which a peer counts as unreachable. More than two of [`Settings::keep_alive`].
    pub idle_timeout: Duration,
    /// Streams that the opener may have open at one time.
    pub streams: u32,
    /// Bytes that may be under way on one stream.
    pub stream_window: u32,
    /// Bytes that may be under way on a connection.
    pub window: u32,
    /// Bytes that are sent before the first acknowledgement comes.
    pub initial_window: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            mtu: MTU_LIMIT,
            keep_alive: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(3),
            streams: 1,
            stream_window: 8 << 20,
            window: 16 << 20,
            initial_window: 256 << 10,
        }
    }
}

impl Settings {
    fn transport(&self) -> TransportConfig {
        let mut config = TransportConfig::default();
        let mut probing = MtuDiscoveryConfig::default();
        probing.upper_bound(self.mtu.clamp(1200, MTU_LIMIT));
        let mut cubic = CubicConfig::default();
        cubic.initial_window(self.initial_window);
        let idle = self.idle_timeout.as_millis().min(u128::from(u32::MAX)) as u32;
        config
            .mtu_discovery_config(Some(probing))
            .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle))))
            .max_concurrent_bidi_streams(VarInt::from_u32(self.streams))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .stream_receive_window(VarInt::from_u32(self.stream_window))
            .receive_window(VarInt::from_u32(self.window))
            .send_window(u64::from(self.window))
            .initial_rtt(Duration::from_millis(50))
            .datagram_receive_buffer_size(None)
            .congestion_controller_factory(Arc::new(cubic));
        config
    }

    /// For endpoints that are bound by [`bind`]: what is to be known before a packet has come.
    fn endpoint(&self) -> EndpointConfig {
        let mut config = EndpointConfig::default();
        let mtu = self.mtu.clamp(1200, MTU_LIMIT);
        config.max_udp_payload_size(mtu).expect("1,200 bytes and more are allowed");
        config
    }
}

/// A server's side: it has the key of `token`, and lets in whoever has the key of one of `admits`.
pub fn server_config(token: &Token, admits: &[Role], settings: &Settings) -> ServerConfig {
    let mut config = ServerConfig::with_crypto(identity::server(token, admits));
    let mut transport = settings.transport();
    // Openers keep connections alive. They do not know of a shorter time-out of ours.
    if settings.idle_timeout < Settings::default().idle_timeout {
        transport.keep_alive_interval(Some(settings.keep_alive));
    }
    config
        .transport_config(Arc::new(transport))
        .max_incoming(1024)
        .incoming_buffer_size(64 << 10)
        .incoming_buffer_size_total(4 << 20);
    config
}

/// An opener's side: it has the key of `token`, and talks to nobody but a `server` of its cluster.
pub fn client_config(token: &Token, server: Role, settings: &Settings) -> ClientConfig {
    let mut config = ClientConfig::new(identity::client(token, server));
    let mut transport = settings.transport();
    // One side is enough: the answers show that the other one lives.
    transport.keep_alive_interval(Some(settings.keep_alive));
    config.transport_config(Arc::new(transport));
    config
}

/// Binds a UDP socket and makes an endpoint of it, within a tokio runtime. Without `server` it only
/// opens connections.
pub fn bind(
    address: SocketAddr,
    server: Option<ServerConfig>,
    settings: &Settings,
) -> io::Result<Endpoint> {
    let socket = UdpSocket::bind(address)?;
    // The system may grant less to whoever is not root: then more is lost and sent again.
    let _ = sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BUFFER)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER));
    let _ = sockopt::set_socket_send_buffer_size_force(&socket, SOCKET_BUFFER)
        .or_else(|_| sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER));
    Endpoint::new(settings.endpoint(), server, socket, Arc::new(TokioRuntime))
}

/// Where to bind an endpoint that opens connections to this address.
pub fn unbound(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0; 16], 0)),
    }
}

/// The role that the other side has proved by its key.
pub fn role_of(connection: &Connection, token: &Token) -> Option<Role> {
    identity::of(connection).and_then(|public| token.role_of(&public))
}

#[cfg(test)]
mod tests;
