//! Sessions begin, break, go on and end.

use std::time::Duration;

use bytes::Bytes;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::relay::Relay;
use super::support::*;
use crate::link::{Link, Status};
use crate::mailbox::{Receive, Source};

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

#[tokio::test]
async fn a_session_ends_on_both_sides_when_its_grace_is_over() {
    let (inn, at) = start(Duration::from_millis(300));
    let relay = Relay::start(at).await;
    let guest = open(client_dial(relay.address, "a")).await.unwrap();
    relay.deaf(true);
    let session = guest.session;
    let history = inn.until("the loss", |it| it.len() == 3).await;
    let why = "it did not come back within 0.3 s".to_owned();
    assert_eq!(history[1..], [Happened::Away(session), Happened::Lost(session, why)]);
    guest.ear.until("the end", |heard| !heard.closed.is_empty()).await;
    guest.ear.with(|heard| {
        assert_eq!(heard.closed.len(), 1);
        assert!(heard.closed[0].contains("no way back for 0.3 s"), "{:?}", heard.closed);
    });
}

#[tokio::test]
async fn a_link_that_comes_back_too_late_is_told_so() {
    let (inn, at) = start(GRACE);
    let relay = Relay::start(at).await;
    let guest = open(client_dial(relay.address, "a")).await.unwrap();
    relay.deaf(true);
    inn.until("the break", |it| it.len() == 2).await;
    // It is not worth waiting for, and cannot be told.
    inn.room(guest.session).outbox.closed("enough");
    let history = inn.until("the loss", |it| it.len() == 3).await;
    assert_eq!(history[2], Happened::Lost(guest.session, "enough".to_owned()));
    relay.deaf(false);
    guest.ear.until("the end", |heard| !heard.closed.is_empty()).await;
    guest.ear.with(|heard| assert!(heard.closed[0].contains("no such session"), "{heard:?}"));
}

#[tokio::test]
async fn a_client_whose_address_changes_goes_on() {
    let (inn, at) = start(GRACE);
    let relay = Relay::start(at).await;
    let guest = open(client_dial(relay.address, "a")).await.unwrap();
    let room = inn.room(guest.session);
    for round in 1..=5 {
        relay.move_house();
        guest.outbox.receive(numbers(0..10));
        room.ear.until("what the client said", |heard| heard.numbers.len() == round * 10).await;
        room.outbox.receive(numbers(0..10));
        guest.ear.until("the answer", |heard| heard.numbers.len() == round * 10).await;
    }
    assert_eq!(*inn.history.borrow(), [Happened::Begun(guest.session)], "no break was needed");
}

/// Has more to say whenever it is asked.
struct Endless {
    asked: AtomicU64,
    until: u64,
}

impl Source<Message> for Endless {
    fn drain(&self, out: &mut Vec<Message>) {
        let number = self.asked.load(Ordering::SeqCst);
        if number < self.until {
            out.push((number, Bytes::from(vec![3; 1 << 20])));
            self.asked.store(number + 1, Ordering::SeqCst);
        }
    }
}

#[tokio::test]
async fn a_source_is_not_asked_while_the_other_side_does_not_listen() {
    let (inn, at) = start(GRACE);
    let relay = Relay::start(at).await;
    let source = Arc::new(Endless { asked: AtomicU64::new(0), until: 60 });
    let ear = Ear::new();
    let dial = client_dial(relay.address, "a");
    let (link, opened) =
        Link::open::<Message, Message>(dial, source.clone(), ear.clone()).await.unwrap();
    let manyhands_proto::link::Opened::Client { session, .. } = opened else { panic!() };
    relay.deaf(true);
    link.poke();
    let up = link.status();
    assert!(matches!(link.changed(up).await, Status::Down { .. }));
    let asked = source.asked.load(Ordering::SeqCst);
    assert!((1..20).contains(&asked), "asked {asked} times for a MiB");
    relay.deaf(false);
    let room = inn.room(session);
    room.ear.until("all of it", |heard| heard.numbers.len() == 60).await;
    room.ear.with(|heard| assert!(heard.numbers.iter().copied().eq(0..60)));
}

#[tokio::test]
async fn what_is_heard_is_acknowledged_though_nothing_is_said() {
    let (inn, at) = start(GRACE);
    let guest = open(client_dial(at, "a")).await.unwrap();
    let room = inn.room(guest.session);
    // More than may be unacknowledged at one time.
    for number in 0..100 {
        guest.outbox.send((number, Bytes::from(vec![0; 1 << 20])));
    }
    room.ear.until("all of it", |heard| heard.numbers.len() == 100).await;
    room.ear.with(|heard| assert!(heard.numbers.iter().copied().eq(0..100)));
}

#[tokio::test]
async fn a_link_that_is_down_does_not_keep_whoever_closes_it() {
    let (inn, at) = start(GRACE);
    let relay = Relay::start(at).await;
    let guest = open(client_dial(relay.address, "a")).await.unwrap();
    // Asked before the break, which the guest may notice before or after the inn.
    let up = guest.link.status();
    relay.deaf(true);
    inn.until("the break", |it| it.len() == 2).await;
    assert!(matches!(guest.link.changed(up).await, Status::Down { .. }));
    guest.link.close("done").await;
    assert_eq!(guest.link.status(), Status::Over);
    guest.ear.with(|heard| assert_eq!(heard.closed, ["done"]));
}
