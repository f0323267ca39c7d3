//! In which order records are tried. Pure: the dice are passed in.

use crate::{Naptr, Srv};
use longshore_wire::Transport;
use ring::rand::{SecureRandom, SystemRandom};
use std::net::IpAddr;

/// Random numbers for spreading load; nothing secret hangs on them (SplitMix64).
pub(crate) struct Dice(u64);

impl Dice {
    /// Different at each call, so that a fleet does not move in step.
    pub(crate) fn new() -> Self {
        let mut seed = [0; 8];
        // Without entropy the order is merely the same on every node, which is no reason to fail.
        let _ = SystemRandom::new().fill(&mut seed);
        Self(u64::from_ne_bytes(seed))
    }

    #[cfg(test)]
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 0 to `bound`, both included.
    fn up_to(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.saturating_add(1)
    }

    /// Fisher and Yates.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = usize::try_from(self.up_to(last as u64)).unwrap_or(last);
            items.swap(last, other);
        }
    }
}

/// The transport that a NAPTR service stands for: ours, or the ancestor's names, in any case of letters.
fn transport_of(services: &str) -> Option<Transport> {
    match services.to_ascii_uppercase().as_str() {
        "LSS+D2W" | "NKS+D2W" => Some(Transport::Wss),
        "LSS+D2Q" => Some(Transport::Quic),
        "LSS+D2T" | "NKS+D2T" => Some(Transport::Tls),
        "LS+D2W" | "NK+D2W" => Some(Transport::Ws),
        "LS+D2T" | "NK+D2T" => Some(Transport::Tcp),
        _ => None,
    }
}

/// What a NAPTR record leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Flag `s`: SRV records of this transport.
    Srv(Transport),
    /// Flag `a`: addresses; the port is the transport's own.
    Hosts(Transport),
    /// No flag: further NAPTR records.
    Naptr,
}

impl Next {
    fn of(record: &Naptr) -> Result<Self, &'static str> {
        let transport = transport_of(&record.services);
        let ours = transport.is_some() || record.services.is_empty();
        match (record.flags.to_ascii_lowercase().as_str(), transport) {
            _ if !ours => Err("skipped: not a service of ours"),
            _ if !record.regexp.is_empty() => Err("skipped: rewriting rules are not followed"),
            _ if record.replacement == "." || record.replacement.is_empty() => Err("skipped: it leads nowhere"),
            ("s", Some(transport)) => Ok(Self::Srv(transport)),
            ("a", Some(transport)) => Ok(Self::Hosts(transport)),
            ("", _) => Ok(Self::Naptr),
            ("s" | "a", None) => Err("skipped: it names no service"),
            _ => Err("skipped: only the flags s and a, or none, are used here"),
        }
    }
}

/// NAPTR records by order and then preference (RFC 3403 §4.1), equal ones by lot, each with what it leads to or why it
/// is skipped. No rewriting by expression: the replacement is taken as it is.
pub(crate) fn naptr(mut records: Vec<Naptr>, dice: &mut Dice) -> Vec<(Naptr, Result<Next, &'static str>)> {
    dice.shuffle(&mut records);
    records.sort_by_key(|record| (record.order, record.preference));
    let with_next = |record: Naptr| {
        let next = Next::of(&record);
        (record, next)
    };
    records.into_iter().map(with_next).collect()
}

/// Why an SRV record is left out.
fn unusable(record: &Srv) -> Option<&'static str> {
    match (record.target.as_str(), record.port) {
        ("." | "", _) => Some("skipped: the service is decidedly not there (target .)"),
        (_, 0) => Some("skipped: port 0"),
        _ => None,
    }
}

/// SRV records by priority, and by lot in proportion to weight within one priority (RFC 2782); behind them those that
/// are left out, with the reason.
pub(crate) fn srv(records: Vec<Srv>, dice: &mut Dice) -> (Vec<Srv>, Vec<(Srv, &'static str)>) {
    let (mut records, unusable): (Vec<_>, Vec<_>) = records.into_iter().map(|record| (unusable(&record), record)).fold(
        (Vec::new(), Vec::new()),
        |(mut good, mut bad), (why, record)| {
            match why {
                None => good.push(record),
                Some(why) => bad.push((record, why)),
            }
            (good, bad)
        },
    );
    // By lot first: records of equal weight, and those of weight 0 among themselves, come in any order. Then zero
    // weights first within a priority, as the RFC has it, so that beside others they win only when the lot is 0.
    dice.shuffle(&mut records);
    records.sort_by_key(|record| (record.priority, record.weight != 0));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(first) = records.first() {
        let group = records.iter().take_while(|record| record.priority == first.priority).count();
        let total: u64 = records[..group].iter().map(|record| u64::from(record.weight)).sum();
        let lot = dice.up_to(total);
        let mut sum = 0;
        let chosen = records[..group].iter().position(|record| {
            sum += u64::from(record.weight);
            sum >= lot
        });
        ordered.push(records.remove(chosen.unwrap_or(0)));
    }
    (ordered, unusable)
}

/// Addresses by lot within their family; the families take turns, IPv6 first (RFC 8305 §4): one that leads nowhere costs
/// one pause and not one for each of its addresses.
pub(crate) fn families(addresses: impl IntoIterator<Item = IpAddr>, dice: &mut Dice) -> Vec<IpAddr> {
    let (mut six, mut four): (Vec<IpAddr>, Vec<IpAddr>) = addresses.into_iter().partition(IpAddr::is_ipv6);
    dice.shuffle(&mut six);
    dice.shuffle(&mut four);
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    let mut mixed = Vec::new();
    loop {
        let (one, other) = (six.next(), four.next());
        if one.is_none() && other.is_none() {
            return mixed;
        }
        mixed.extend(one.into_iter().chain(other));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn record(priority: u16, weight: u16, target: &str) -> Srv {
        Srv { priority, weight, port: 1, target: target.to_owned() }
    }

    fn rule(order: u16, preference: u16, flags: &str, services: &str) -> Naptr {
        let (flags, services) = (flags.to_owned(), services.to_owned());
        Naptr { order, preference, flags, services, regexp: String::new(), replacement: "r.test".to_owned() }
    }

    /// How often each comes first, and second, of 6,000 draws.
    fn draws(zone: &[Srv]) -> [BTreeMap<String, u32>; 2] {
        let mut places = [BTreeMap::new(), BTreeMap::new()];
        let mut dice = Dice::seeded(7);
        for _ in 0..6000 {
            let (order, _) = srv(zone.to_vec(), &mut dice);
            assert_eq!(order.len(), zone.len());
            for (place, record) in places.iter_mut().zip(order) {
                *place.entry(record.target).or_insert(0) += 1;
            }
        }
        places
    }

    #[test]
    fn srv_priority_is_strict_and_weight_is_a_share() {
        let zone =
            vec![record(20, 60000, "backup"), record(10, 30, "big"), record(10, 10, "small"), record(10, 0, "zero")];
        let [first, _] = draws(&zone);
        // 30 : 10, and the zero weight only on a lot of 0 out of 41.
        assert!((4100..4600).contains(&first["big"]), "{first:?}");
        assert!((1250..1680).contains(&first["small"]), "{first:?}");
        assert!((70..250).contains(&first["zero"]), "{first:?}");
        assert!(!first.contains_key("backup"));
        let (order, _) = srv(zone, &mut Dice::seeded(1));
        assert_eq!(order[3].target, "backup");
    }

    #[test]
    fn the_second_is_drawn_by_weight_too() {
        let [first, second] = draws(&[record(0, 1, "a"), record(0, 1, "b"), record(0, 8, "c")]);
        assert!((4400..5200).contains(&first["c"]), "{first:?}");
        // Behind c, which is first in about 4,800 of the draws, a and b are equals.
        let (a, b) = (second["a"], second["b"]);
        assert!(a.abs_diff(b) < 400 && a + b > 4500, "{second:?}");
    }

    #[test]
    fn weights_of_zero_alone_are_equals() {
        let [first, _] = draws(&[record(5, 0, "a"), record(5, 0, "b"), record(5, 0, "c")]);
        assert!(first.len() == 3 && first.values().all(|times| (1800..2200).contains(times)), "{first:?}");
    }

    #[test]
    fn srv_target_root_means_no_service() {
        let (used, left_out) = srv(vec![record(0, 0, "."), record(0, 0, "a")], &mut Dice::seeded(1));
        assert_eq!((used.len(), left_out.len()), (1, 1));
        assert!(left_out[0].1.contains("decidedly not there"));
    }

    #[test]
    fn naptr_flags_and_services() {
        for (flags, services, expected) in [
            ("s", "LSS+D2W", Some(Next::Srv(Transport::Wss))),
            ("S", "nks+d2w", Some(Next::Srv(Transport::Wss))),
            ("s", "LSS+D2T", Some(Next::Srv(Transport::Tls))),
            ("s", "NKS+D2T", Some(Next::Srv(Transport::Tls))),
            ("s", "LS+D2W", Some(Next::Srv(Transport::Ws))),
            ("s", "NK+D2W", Some(Next::Srv(Transport::Ws))),
            ("s", "LS+D2T", Some(Next::Srv(Transport::Tcp))),
            ("s", "NK+D2T", Some(Next::Srv(Transport::Tcp))),
            ("s", "LSS+D2Q", Some(Next::Srv(Transport::Quic))),
            ("A", "LSS+D2W", Some(Next::Hosts(Transport::Wss))),
            ("", "LSS+D2W", Some(Next::Naptr)),
            ("", "", Some(Next::Naptr)),
            ("s", "", None),
            ("u", "LSS+D2W", None),
            ("p", "LSS+D2W", None),
            ("s", "SIP+D2U", None),
            ("s", "LSS+D2U", None),
        ] {
            let found = naptr(vec![rule(1, 1, flags, services)], &mut Dice::seeded(1)).remove(0).1;
            assert_eq!(found.ok(), expected, "{flags} {services}");
        }
        let rewriting = Naptr { regexp: "!.*!x!".to_owned(), ..rule(1, 1, "s", "LSS+D2W") };
        assert!(Next::of(&rewriting).unwrap_err().contains("rewriting"));
    }

    #[test]
    fn naptr_order_before_preference_and_equals_by_lot() {
        let zone = vec![rule(20, 1, "s", "a"), rule(10, 30, "s", "b"), rule(10, 20, "s", "c"), rule(10, 20, "s", "d")];
        let mut seen = BTreeSet::new();
        let mut dice = Dice::seeded(5);
        for _ in 0..50 {
            let order = naptr(zone.clone(), &mut dice);
            let services: String = order.into_iter().map(|(record, _)| record.services).collect();
            assert!(services.ends_with("ba"), "{services}");
            seen.insert(services);
        }
        assert_eq!(seen.len(), 2, "{seen:?}");
    }

    #[test]
    fn families_take_turns() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let all = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "fd00::2"].map(ip);
        let mut orders = BTreeSet::new();
        let mut dice = Dice::seeded(3);
        for _ in 0..100 {
            let mixed = families(all, &mut dice);
            let six: Vec<bool> = mixed.iter().map(IpAddr::is_ipv6).collect();
            assert_eq!(six, [true, false, true, false, false]);
            orders.insert(mixed);
        }
        assert_eq!(orders.len(), 12, "2 orders of the one family times 6 of the other");
    }

    #[test]
    fn shuffle_reaches_every_order() {
        let mut dice = Dice::seeded(3);
        let orders: BTreeSet<_> = (0..200)
            .map(|_| {
                let mut items = [1, 2, 3];
                dice.shuffle(&mut items);
                items
            })
            .collect();
        assert_eq!(orders.len(), 6);
    }
}
