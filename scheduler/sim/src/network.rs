//! A link between the scheduler and one peer, with everything that a network does to it.
//!
//! Both sides talk through [`Session`]s. Packets take their time, overtake each other, come twice,
//! and are lost when the connection is cut; then a new one is made and the sessions resume.

use std::collections::VecDeque;

use manyhands_proto::session::{Packet, Resume, Session, SessionError};

use crate::rng::Rng;

/// What a network does. Parts are of 100,000.
#[derive(Clone, Debug, Default)]
pub struct Weather {
    /// The least that a packet takes, microseconds.
    pub latency_us: u64,
    /// What it may take more, microseconds: packets overtake each other.
    pub jitter_us: u64,
    /// Packets that arrive a second time.
    pub repeat: u32,
    /// Packets that, as they are sent, cut the connection.
    pub cut: u32,
    /// Messages that reach the core twice, session or not: every message is idempotent by its ids.
    pub twice: u32,
}

/// Something under way. `Down` goes from the scheduler to the peer.
#[derive(Clone, Debug)]
pub enum Flight<Down, Up> {
    /// A packet for the peer, on connection number so-and-so.
    Down(u32, Packet<Down>),
    /// A packet for the scheduler.
    Up(u32, Packet<Up>),
    /// What the scheduler says first on a new connection.
    ResumeDown(u32, Resume),
    /// What the peer says first on a new connection.
    ResumeUp(u32, Resume),
    /// The scheduler sees that connection number so-and-so is broken.
    Noticed(u32),
    /// A new connection takes the place of number so-and-so.
    Reconnect(u32),
}

/// A side's part in a connection.
#[derive(Debug)]
struct Side<Out, In> {
    session: Session<Out, In>,
    /// What it said first on this connection, while it waits for the other's word; packets that
    /// come meanwhile wait too.
    resuming: Option<Resume>,
    waiting: VecDeque<Packet<In>>,
}

/// A link: both sides and what lies between them.
#[derive(Debug)]
pub struct Link<Down, Up> {
    scheduler: Side<Down, Up>,
    peer: Side<Up, Down>,
    connection: u32,
    connected: bool,
    /// The scheduler was told that it is broken.
    away: bool,
    /// Packets that the peer has ever had to send.
    said_up: u64,
    weather: Weather,
    /// How often it was cut.
    pub cuts: u32,
}

/// What the scheduler's shell sees of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It is broken.
    Away,
    /// It is whole again.
    Back,
}

/// What came out of an arrival.
#[derive(Debug)]
pub struct Arrival<Down, Up> {
    /// Before everything else.
    pub news: Option<News>,
    /// For the peer.
    pub down: Vec<Down>,
    /// For the scheduler.
    pub up: Vec<Up>,
}

/// Flights that begin, each with the microseconds that it takes.
pub type Departures<Down, Up> = Vec<(u64, Flight<Down, Up>)>;

impl<Out: Clone, In> Side<Out, In> {
    fn new() -> Self {
        Side { session: Session::default(), resuming: None, waiting: VecDeque::new() }
    }

    fn receive(&mut self, packet: Packet<In>) -> Result<Vec<In>, SessionError> {
        if self.resuming.is_some() {
            self.waiting.push_back(packet);
            return Ok(Vec::new());
        }
        self.session.receive(packet)
    }

    fn begin_resume(&mut self) -> Resume {
        self.waiting.clear();
        let own = self.session.resume();
        self.resuming = Some(own);
        own
    }

    fn resumed(&mut self, theirs: Resume) -> Result<Resumed<Out, In>, SessionError> {
        let Some(own) = self.resuming.take() else { return Ok((Vec::new(), Vec::new())) };
        let again = self.session.resumed(own, theirs)?;
        let mut messages = Vec::new();
        for packet in std::mem::take(&mut self.waiting) {
            messages.extend(self.session.receive(packet)?);
        }
        Ok((again, messages))
    }
}

/// Packets to send again, and messages that waited.
type Resumed<Out, In> = (Vec<Packet<Out>>, Vec<In>);

impl<Down: Clone, Up: Clone> Link<Down, Up> {
    /// A link that is connected and has carried nothing.
    pub fn new(weather: Weather) -> Self {
        let (scheduler, peer) = (Side::new(), Side::new());
        Link {
            scheduler,
            peer,
            connection: 0,
            connected: true,
            away: false,
            said_up: 0,
            weather,
            cuts: 0,
        }
    }

    /// The scheduler says something to the peer.
    pub fn send_down(&mut self, message: Down, rng: &mut Rng, out: &mut Departures<Down, Up>) {
        let packet = self.scheduler.session.send(message);
        if self.carries(self.scheduler.resuming, rng, out) {
            self.depart(Flight::Down(self.connection, packet), rng, out);
        }
    }

    /// The peer says something to the scheduler.
    pub fn send_up(&mut self, message: Up, rng: &mut Rng, out: &mut Departures<Down, Up>) {
        let packet = self.peer.session.send(message);
        self.said_up += 1;
        if self.carries(self.peer.resuming, rng, out) {
            self.depart(Flight::Up(self.connection, packet), rng, out);
        }
    }

    /// Whether a packet gets onto the wire. One that does not is sent again by the resume.
    fn carries(
        &mut self,
        resuming: Option<Resume>,
        rng: &mut Rng,
        out: &mut Departures<Down, Up>,
    ) -> bool {
        if self.connected && rng.chance(self.weather.cut) {
            let us = rng.scaled(10, 200_000);
            self.cut(rng.below(us * 2), Some(us), out);
        }
        self.connected && resuming.is_none()
    }

    /// Cuts the connection. The scheduler notices after `noticed_us` unless it is whole again by
    /// then; it is after `us`, if ever.
    pub fn cut(&mut self, noticed_us: u64, us: Option<u64>, out: &mut Departures<Down, Up>) {
        self.cuts += 1;
        self.connected = false;
        // Whatever was to repair an earlier cut comes in vain.
        self.connection += 1;
        out.push((noticed_us, Flight::Noticed(self.connection)));
        out.extend(us.map(|us| (us, Flight::Reconnect(self.connection))));
    }

    fn depart(&self, flight: Flight<Down, Up>, rng: &mut Rng, out: &mut Departures<Down, Up>) {
        if rng.chance(self.weather.repeat) {
            out.push((self.delay(rng), flight.clone()));
        }
        out.push((self.delay(rng), flight));
    }

    fn delay(&self, rng: &mut Rng) -> u64 {
        self.weather.latency_us + rng.below(self.weather.jitter_us + 1)
    }

    /// Something comes to the end of its way. What was under way when its connection was cut never
    /// arrives, but for a few stragglers that only a session's epoch can tell.
    pub fn arrive(
        &mut self,
        flight: Flight<Down, Up>,
        rng: &mut Rng,
        out: &mut Departures<Down, Up>,
    ) -> Result<Arrival<Down, Up>, SessionError> {
        let mut arrival = Arrival { news: None, down: Vec::new(), up: Vec::new() };
        match flight {
            Flight::Down(connection, packet) => {
                if self.alive(connection) || rng.chance(20_000) {
                    arrival.down = self.peer.receive(packet)?;
                }
            }
            Flight::Up(connection, packet) => {
                if self.alive(connection) || rng.chance(20_000) {
                    arrival.up = self.scheduler.receive(packet)?;
                }
            }
            Flight::ResumeDown(connection, theirs) if self.alive(connection) => {
                let (again, messages) = self.peer.resumed(theirs)?;
                arrival.down = messages;
                for packet in again {
                    self.depart(Flight::Up(connection, packet), rng, out);
                }
            }
            Flight::ResumeUp(connection, theirs) if self.alive(connection) => {
                let (again, messages) = self.scheduler.resumed(theirs)?;
                arrival.up = messages;
                for packet in again {
                    self.depart(Flight::Down(connection, packet), rng, out);
                }
            }
            Flight::ResumeDown(..) | Flight::ResumeUp(..) => {}
            Flight::Noticed(connection) => {
                if !self.connected && connection == self.connection && !self.away {
                    self.away = true;
                    arrival.news = Some(News::Away);
                }
            }
            Flight::Reconnect(connection) => {
                if !self.connected && connection == self.connection {
                    self.reconnect(rng, out);
                    arrival.news = std::mem::take(&mut self.away).then_some(News::Back);
                }
            }
        }
        Ok(arrival)
    }

    fn alive(&self, connection: u32) -> bool {
        self.connected && connection == self.connection
    }

    fn reconnect(&mut self, rng: &mut Rng, out: &mut Departures<Down, Up>) {
        self.connection += 1;
        self.connected = true;
        let (down, up) = (self.scheduler.begin_resume(), self.peer.begin_resume());
        out.push((self.delay(rng), Flight::ResumeDown(self.connection, down)));
        out.push((self.delay(rng), Flight::ResumeUp(self.connection, up)));
    }

    /// Whether the next message shall reach its core twice.
    pub fn twice(&self, rng: &mut Rng) -> bool {
        rng.chance(self.weather.twice)
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Whether the scheduler has heard all that the peer has said.
    pub fn has_heard_all(&self) -> bool {
        self.scheduler.session.received() == self.said_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agenda::Agenda;
    use manyhands_proto::Time;

    #[test]
    fn a_bad_network_delivers_everything_once_and_in_order() {
        for seed in 0..50 {
            let mut rng = Rng::new(seed);
            let weather =
                Weather { latency_us: 10, jitter_us: 500, repeat: 20_000, cut: 3_000, twice: 0 };
            let mut link = Link::<u32, u32>::new(weather);
            let mut agenda = Agenda::default();
            let (mut sent, mut down, mut up) = (0, Vec::new(), Vec::new());
            let mut out = Vec::new();
            agenda.at(Time(0), None);
            while let Some((now, flight)) = agenda.take_next() {
                match flight {
                    None if sent < 300 => {
                        link.send_down(sent, &mut rng, &mut out);
                        link.send_up(sent, &mut rng, &mut out);
                        sent += 1;
                        agenda.at(now + 20, None);
                    }
                    None => {}
                    Some(flight) => {
                        let arrival = link.arrive(flight, &mut rng, &mut out).unwrap();
                        down.extend(arrival.down);
                        up.extend(arrival.up);
                    }
                }
                for (delay, flight) in out.drain(..) {
                    agenda.at(now + delay, Some(flight));
                }
            }
            let all: Vec<u32> = (0..300).collect();
            assert_eq!((down, up), (all.clone(), all), "seed {seed}, {} cuts", link.cuts);
        }
    }
}
