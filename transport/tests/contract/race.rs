//! Many candidates: the dead cost little, the first that stands wins, and the rest is not lost.

use crate::harness::{accept, client_tls, endpoint, listen, soon};
use longshore_transport::{DialError, DialOptions, Dialled, Race};
use longshore_wire::{Endpoint, Transport};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

/// Takes connections and never says a word: TLS hangs there.
struct Silent(TcpListener);

impl Silent {
    async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn endpoint(&self) -> Endpoint {
        endpoint(Transport::Tls, self.0.local_addr().unwrap())
    }
}

/// An address where nobody listens.
async fn closed() -> Endpoint {
    Silent::start().await.endpoint()
}

/// Nobody here waits for a deadline: a candidate that hangs hangs for good.
fn options() -> DialOptions {
    DialOptions { connect_timeout: Duration::from_secs(600), ..DialOptions::new(client_tls()) }
}

fn won(dialled: Option<Dialled>) -> Endpoint {
    let dialled = dialled.expect("somebody is left");
    assert!(dialled.result.is_ok(), "{:?}", dialled.result);
    dialled.endpoint
}

#[tokio::test]
async fn a_dead_candidate_costs_a_quarter_of_a_second() {
    soon(async {
        let (dead, other, live) = (Silent::start().await, Silent::start().await, listen(Transport::Wss).await);
        let alive = endpoint(Transport::Wss, live.local_addr());
        let begun = Instant::now();
        let mut race = Race::new([dead.endpoint(), other.endpoint(), alive.clone()], &options());
        let (first, _link) = tokio::join!(race.next(), accept(&live));
        assert_eq!(won(first), alive);
        assert!(begun.elapsed() >= Duration::from_millis(500), "each of the former had its time");
    })
    .await;
}

#[tokio::test]
async fn a_candidate_that_fails_makes_way_at_once_and_is_told() {
    soon(async {
        let (slow, refused, live) = (Silent::start().await, closed().await, listen(Transport::Tcp).await);
        let alive = endpoint(Transport::Tcp, live.local_addr());
        let refused_ones = std::iter::repeat_n(refused.clone(), 100);
        // One that hangs stays under way all the time: those behind it wait neither for it nor for their quarter.
        let many: Vec<Endpoint> = [slow.endpoint()].into_iter().chain(refused_ones).chain([alive.clone()]).collect();
        let begun = Instant::now();
        let mut race = Race::new(many, &options());
        for _ in 0..100 {
            let dialled = race.next().await.unwrap();
            assert_eq!(dialled.endpoint, refused);
            assert!(matches!(dialled.result, Err(DialError::Connect { .. })), "{:?}", dialled.result);
        }
        assert_eq!(won(race.next().await), alive);
        assert!(begun.elapsed() < Duration::from_secs(20), "100 waits would be 25 s");
        drop(slow);
        assert!(race.next().await.is_some_and(|dialled| dialled.result.is_err()), "the one that was cut");
        assert!(race.next().await.is_none(), "each is told once");
    })
    .await;
}

#[tokio::test]
async fn the_winner_cuts_the_others_and_the_race_can_go_on() {
    soon(async {
        let (slow, first, second) = (Silent::start().await, listen(Transport::Tcp).await, listen(Transport::Tcp).await);
        let (one, two) = (endpoint(Transport::Tcp, first.local_addr()), endpoint(Transport::Tcp, second.local_addr()));
        let mut race = Race::new([slow.endpoint(), one.clone(), two.clone()], &options());
        assert_eq!(won(race.next().await), one);
        let (mut cut, _) = slow.0.accept().await.unwrap();
        let mut hello = Vec::new();
        // It ends only because the other end is gone.
        let _ = cut.read_to_end(&mut hello).await;
        // The winner was the wrong one: the one that was cut gets a second chance, then the rest.
        let (next, again) = tokio::join!(race.next(), slow.0.accept());
        assert_eq!(won(next), two);
        assert!(again.is_ok());
        drop(race);
    })
    .await;
}

#[tokio::test]
async fn a_race_without_a_winner_tells_every_failure() {
    soon(async {
        let dead = [Silent::start().await, Silent::start().await];
        let options = DialOptions { connect_timeout: Duration::from_millis(400), ..options() };
        let candidates = [dead[0].endpoint(), closed().await, dead[1].endpoint()];
        let mut race = Race::new(candidates.clone(), &options);
        let mut told = Vec::new();
        while let Some(dialled) = race.next().await {
            assert!(dialled.result.is_err());
            told.push(dialled.endpoint.address);
        }
        let mut expected = candidates.map(|endpoint| endpoint.address).to_vec();
        told.sort();
        expected.sort();
        assert_eq!(told, expected);
        assert!(Race::new([], &options).next().await.is_none());
    })
    .await;
}
