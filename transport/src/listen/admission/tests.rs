//! What the places promise: bounded in all, fair among addresses, and a growing pause for who guesses.

use super::*;
use std::collections::VecDeque;
use std::net::Ipv4Addr;

fn limits(pending: usize, active: usize, active_per_address: usize) -> Admission {
    Admission::new(AdmissionLimits { pending, active, active_per_address })
}

fn host(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number).into()
}

/// Whether the ticket's turn has come.
fn is_on(ticket: &mut Ticket) -> bool {
    if ticket.turn.as_mut().is_some_and(|turn| turn.try_recv().is_ok()) {
        ticket.turn = None;
    }
    ticket.turn.is_none()
}

#[tokio::test]
async fn one_address_never_takes_all_places() {
    let admission = limits(100, 10, 4);
    let hog: Vec<_> = (0..1000).filter_map(|_| admission.enter(host(1))).collect();
    assert_eq!(hog.len(), 50, "half of all places");
    let second: Vec<_> = (0..1000).filter_map(|_| admission.enter(host(2))).collect();
    assert_eq!(second.len(), 25);
    assert!(admission.enter(host(3)).is_some(), "a newcomer finds room");
    assert_eq!(admission.count(), (75, 8));
    drop((hog, second));
    assert_eq!(admission.count(), (0, 0));
    assert!(admission.0.state().addresses.is_empty() && admission.0.state().turns.is_empty());
}

#[tokio::test]
async fn a_newcomer_comes_before_a_crowd() {
    let admission = limits(1000, 4, 4);
    let crowd = [1, 1, 1, 2, 1, 1, 1, 2, 2, 2];
    let mut crowd: Vec<_> = crowd.into_iter().map(|number| admission.enter(host(number)).unwrap()).collect();
    assert_eq!(crowd.iter_mut().filter_map(|ticket| is_on(ticket).then_some(())).count(), 4);
    let mut newcomer = admission.enter(host(200)).unwrap();
    assert!(!is_on(&mut newcomer));
    let on = crowd.iter_mut().position(is_on).unwrap();
    drop(crowd.remove(on));
    assert!(is_on(&mut newcomer), "the first free turn is the newcomer's");
}

#[tokio::test]
async fn every_turn_is_used_and_none_is_lost() {
    let admission = limits(1000, 3, 2);
    let mut waiting: VecDeque<_> = (0..60_u8).map(|n| admission.enter(host(n % 5)).unwrap()).collect();
    for _ in 0..60 {
        assert_eq!(admission.count().1, 3.min(waiting.len()), "no place stays empty while somebody waits");
        // Those in the middle give up while they wait, too.
        let gone = waiting.len() / 2;
        drop(waiting.remove(gone));
    }
    assert_eq!(admission.count(), (0, 0));
}

#[tokio::test]
async fn whoever_waits_is_woken() {
    let admission = limits(10, 1, 1);
    let mut first = admission.enter(host(1)).unwrap();
    first.turn().await;
    let mut second = admission.enter(host(1)).unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(10), second.turn()).await.is_err());
    drop(first);
    tokio::time::timeout(Duration::from_secs(5), second.turn()).await.unwrap();
}

#[tokio::test]
async fn guessing_gets_slower_and_is_forgiven() {
    let admission = limits(1000, 1000, 64);
    let ticket = admission.enter(host(1)).unwrap();
    let pauses: Vec<_> = (0..5).map(|_| ticket.failed().as_millis()).collect();
    assert_eq!(pauses, [500, 1000, 2000, 3000, 3000]);
    assert_eq!(admission.enter(host(2)).unwrap().failed().as_millis(), 500, "another address is another guesser");
    let _held: Vec<_> = (0..100).map(|_| admission.enter(host(1)).unwrap()).collect();
    assert_eq!(admission.count().1, ACTIVE_OF_SUSPECT, "a suspect is worked on less");
    let mut state = admission.0.state();
    state.suspects.get_mut(&host(1)).unwrap().last -= FORGIVEN_AFTER * 3;
    drop(state);
    assert_eq!(ticket.failed().as_millis(), 500);
}

#[tokio::test]
async fn the_memory_of_failures_is_bounded() {
    let admission = limits(10, 10, 10);
    for number in 0..2 * u32::try_from(REMEMBERED).unwrap() {
        admission.enter(Ipv4Addr::from_bits(number).into()).unwrap().failed();
    }
    let remembered = admission.0.state().suspects.len();
    assert!((1..=REMEMBERED).contains(&remembered), "{remembered}");
}

#[test]
fn an_ipv6_host_is_its_network() {
    let of = |text: &str| network(text.parse().unwrap());
    assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1:2:3"));
    assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    assert_eq!(of("::ffff:10.0.0.1"), host(1));
    assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
}
