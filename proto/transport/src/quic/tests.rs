use std::net::Ipv4Addr;

use quinn::ConnectionError;

use super::*;
use crate::keys::ClusterSecret;

const ADMITTED: [Role; 2] = [Role::Worker, Role::Client];

fn secret(byte: u8) -> ClusterSecret {
    ClusterSecret::from_bytes([byte; 32])
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn server(token: &Token) -> Endpoint {
    let config = server_config(token, &ADMITTED, &Settings::default());
    bind(loopback(), Some(config), &Settings::default()).unwrap()
}

/// What the two sides see: the role that the server sees, or why it refuses; and the client's
/// error.
async fn meet(
    server: &Endpoint,
    own: &Token,
    config: ClientConfig,
) -> (Result<Option<Role>, ConnectionError>, Option<ConnectionError>) {
    let client = bind(loopback(), None, &Settings::default()).unwrap();
    let address = server.local_addr().unwrap();
    let connecting = client.connect_with(config, address, SERVER_NAME).unwrap();
    let accept = async {
        let connection = server.accept().await.unwrap().await?;
        let role = role_of(&connection, own);
        // The client has finished its handshake before the server has judged its key.
        let _ = connection.open_bi().await.unwrap().0.finish();
        connection.closed().await;
        Ok(role)
    };
    let open = async {
        let connection = connecting.await?;
        let heard = connection.accept_bi().await;
        connection.close(VarInt::from_u32(0), b"");
        client.wait_idle().await;
        heard.map(|_| ())
    };
    let (accepted, opened) = tokio::join!(accept, open);
    (accepted, opened.err())
}

#[tokio::test]
async fn each_side_knows_the_others_role_by_its_key() {
    let own = secret(1).token(Role::Scheduler);
    let server = server(&own);
    for role in ADMITTED {
        let config = client_config(&secret(1).token(role), Role::Scheduler, &Settings::default());
        let (accepted, refused) = meet(&server, &own, config).await;
        assert_eq!((accepted.unwrap(), refused), (Some(role), None));
    }
}

#[tokio::test]
async fn a_key_of_another_cluster_is_refused() {
    let own = secret(1).token(Role::Scheduler);
    let server = server(&own);
    // It knows the server's public key, but has a key of its own making.
    let theirs = secret(2).token(Role::Worker);
    let forged = identity::tests::client_with(&theirs, *own.public(Role::Scheduler));
    let forged = ClientConfig::new(forged);
    let (accepted, refused) = meet(&server, &own, forged).await;
    assert!(accepted.is_err(), "{accepted:?}");
    assert!(refused.is_some());
}

#[tokio::test]
async fn an_opener_refuses_the_server_of_another_cluster() {
    let own = secret(1).token(Role::Scheduler);
    let server = server(&own);
    let theirs = secret(2).token(Role::Worker);
    let config = client_config(&theirs, Role::Scheduler, &Settings::default());
    let (accepted, refused) = meet(&server, &own, config).await;
    assert!(accepted.is_err() && refused.is_some());
}

#[tokio::test]
async fn a_role_that_is_not_admitted_is_refused() {
    let own = secret(1).token(Role::Scheduler);
    let server = server(&own);
    let config = client_config(&own, Role::Scheduler, &Settings::default());
    let (accepted, refused) = meet(&server, &own, config).await;
    assert!(accepted.is_err() && refused.is_some());
}

#[tokio::test]
async fn a_stranger_without_a_key_is_refused() {
    let own = secret(1).token(Role::Scheduler);
    let server = server(&own);
    let config = ClientConfig::new(identity::tests::client_without(*own.public(Role::Scheduler)));
    let (accepted, refused) = meet(&server, &own, config).await;
    assert!(accepted.is_err() && refused.is_some(), "{accepted:?}");
}

#[tokio::test]
async fn an_opener_does_not_talk_to_a_server_of_another_role() {
    // A worker's data endpoint pretends to be the scheduler.
    let own = secret(1).token(Role::Worker);
    let server = server(&own);
    let config =
        client_config(&secret(1).token(Role::Client), Role::Scheduler, &Settings::default());
    let (accepted, refused) = meet(&server, &own, config).await;
    assert!(accepted.is_err() && refused.is_some());
}
