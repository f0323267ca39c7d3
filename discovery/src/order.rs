//! In which order records are tried. Pure: the dice are passed in.

use crate::{Naptr, Srv};
use longshore_wire::Transport;
use ring::rand::{SecureRandom, SystemRandom};

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

/// The NAPTR records that concern us, by order and then preference (RFC 3403 §4.1). Only flag `s`, which leads to SRV
/// records, and no rewriting by expression: the replacement is taken as it is.
pub(crate) fn naptr(records: Vec<Naptr>) -> Vec<(Transport, Naptr)> {
    let mut ours: Vec<_> = records
        .into_iter()
        .filter(|record| record.flags.eq_ignore_ascii_case("s"))
        .filter_map(|record| transport_of(&record.services).map(|transport| (transport, record)))
        .collect();
    ours.sort_by_key(|(_, record)| (record.order, record.preference));
    ours
}

/// SRV records by priority, and by lot in proportion to weight within one priority (RFC 2782). A target of `.` says
/// that the service is decidedly not there.
pub(crate) fn srv(mut records: Vec<Srv>, dice: &mut Dice) -> Vec<Srv> {
    records.retain(|record| !record.target.is_empty() && record.target != ".");
    // Zero weights first within a priority, as the RFC has it, so that they win only when the lot is 0.
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
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(priority: u16, weight: u16, target: &str) -> Srv {
        Srv { priority, weight, port: 1, target: target.to_owned() }
    }

    #[test]
    fn srv_priority_is_strict_and_weight_is_a_share() {
        let zone = vec![record(20, 0, "backup"), record(10, 30, "big"), record(10, 10, "small"), record(10, 0, "zero")];
        let mut first = std::collections::BTreeMap::new();
        let mut dice = Dice::seeded(7);
        for _ in 0..4000 {
            let order = srv(zone.clone(), &mut dice);
            assert_eq!(order.len(), 4);
            assert_eq!(order[3].target, "backup");
            *first.entry(order[0].target.clone()).or_insert(0_u32) += 1;
        }
        // 30 : 10, and the zero weight only on a lot of 0 out of 41.
        assert!((2700..3100).contains(&first["big"]), "{first:?}");
        assert!((820..1120).contains(&first["small"]), "{first:?}");
        assert!((40..180).contains(&first["zero"]), "{first:?}");
    }

    #[test]
    fn srv_target_root_means_no_service() {
        assert!(srv(vec![record(0, 0, "."), record(0, 0, "")], &mut Dice::seeded(1)).is_empty());
    }

    #[test]
    fn quic_is_taken_only_where_a_record_names_it() {
        assert_eq!(transport_of("lss+d2q"), Some(Transport::Quic));
        assert!(["LS+D2Q", "NKS+D2Q"].into_iter().all(|service| transport_of(service).is_none()));
    }

    #[test]
    fn shuffle_reaches_every_order() {
        let mut dice = Dice::seeded(3);
        let orders: std::collections::BTreeSet<_> = (0..200)
            .map(|_| {
                let mut items = [1, 2, 3];
                dice.shuffle(&mut items);
                items
            })
            .collect();
        assert_eq!(orders.len(), 6);
    }
}
