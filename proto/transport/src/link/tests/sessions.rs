//! Sessions begin, break, go on and end.

use std::time::Duration;

use bytes::Bytes;

use super::relay::Relay;
use super::support::*;
use crate::link::Status;
use crate::mailbox::Receive;

const GRACE: Duration = Duration::from_secs(30);

fn numbers(range: std::ops::Range<u64>) -> Vec<Message> {
    range.map(|number| (number, Bytes::new())).collect()
}

#[tokio::test]
async fn both_sides_hear_each_other_and_say_goodbye() {
    let (inn, at) = start(GRACE);
    let guest = open(client_dial(at, "a")).await.unwrap();
    let room = inn.room(guest.session);
    guest.outbox.receive(numbers(0..100));
    room.ear.until("what the client said", |heard| heard.numbers.len() == 100).await;
    room.outbox.receive(numbers(0..50));
    guest.ear.until("what the scheduler said", |heard| heard.numbers.len() == 50).await;
    // What is queued still arrives.
    guest.outbox.receive(numbers(100..20_000));
    guest.link.close("done").await;
    let history = inn.until("the end", |it| it.len() == 2).await;
    assert_eq!(history[1], Happened::Lost(guest.session, "done".to_owned()));
    room.ear.with(|heard| assert!(heard.numbers.iter().copied().eq(0..20_000)));
    guest.ear.with(|heard| assert_eq!(heard.closed, ["done"]));
    assert_eq!(guest.link.status(), Status::Over);
}

#[tokio::test]
async fn the_host_ends_a_session_in_words_after_all_is_said() {
    let (inn, at) = start(GRACE);
    let guest = open(client_dial(at, "a")).await.unwrap();
    let room = inn.room(guest.session);
    let load = Bytes::from(vec![7; 1000]);
    room.outbox.receive((0..50_000).map(|number| (number, load.clone())).collect());
    room.outbox.closed("it is late");
    guest.ear.until("the end", |heard| !heard.closed.is_empty()).await;
    guest.ear.with(|heard| {
        assert!(heard.numbers.iter().copied().eq(0..50_000));
        assert_eq!(heard.closed, ["it is late"]);
    });
    inn.until("the end", |it| matches!(it.last(), Some(Happened::Lost(..)))).await;
}

#[tokio::test]
async fn a_connection_that_breaks_again_and_again_loses_nothing() {
    let (inn, at) = start(GRACE);
    let relay = Relay::start(at).await;
    let guest = open(client_dial(relay.address, "a")).await.unwrap();
    let room = inn.room(guest.session);
    let mut sent = 0;
    for round in 1..=8 {
        relay.deaf(false);
        for _ in 0..200 {
            let load = Bytes::from(vec![1; (sent % 3000) as usize]);
            guest.outbox.send((sent, load.clone()));
            room.outbox.send((sent, load));
            sent += 1;
            tokio::task::yield_now().await;
        }
        let some = sent - 100;
        for ear in [&room.ear, &guest.ear] {
            ear.until("some messages", |heard| heard.numbers.len() as u64 >= some).await;
        }
        relay.deaf(true);
        inn.until("the break", |it| {
            it.iter().filter(|it| matches!(it, Happened::Away(_))).count() == round
        })
        .await;
    }
    relay.deaf(false);
    for ear in [&room.ear, &guest.ear] {
        ear.until("all messages", |heard| heard.numbers.len() as u64 >= sent).await;
        ear.with(|heard| assert!(heard.numbers.iter().copied().eq(0..sent)));
    }
    guest.link.close("done").await;
}
