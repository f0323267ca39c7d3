//! The addresses of many hosts at once, both families side by side.

use crate::walk::Target;
use crate::{Answer, Family, LookupError, Resolve};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// When one family has addresses, the other may be so much later (RFC 8305 §3 says 50 ms for browsers, where somebody
/// waits; a long-lived session is worth more patience).
const RESOLUTION_DELAY: Duration = Duration::from_millis(500);

type Asked = Result<Answer<IpAddr>, LookupError>;

/// What came of one host.
pub(crate) struct Found {
    answers: Vec<(Family, Asked)>,
}

impl Found {
    /// Each family's answer.
    pub(crate) fn families(&self) -> impl Iterator<Item = &(Family, Asked)> {
        self.answers.iter()
    }

    /// The addresses that may be dialled.
    pub(crate) fn usable(&self) -> impl Iterator<Item = IpAddr> {
        let all = self.answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).flat_map(|found| &found.records);
        all.copied().filter(|ip| unusable(*ip).is_none())
    }
}

/// Why an address is never dialled, if so: a zone must not turn this node against itself or a whole network.
pub(crate) fn unusable(ip: IpAddr) -> Option<&'static str> {
    let broadcast = matches!(ip, IpAddr::V4(four) if four.is_broadcast());
    if ip.is_unspecified() || ip.is_multicast() || broadcast {
        Some("skipped: not the address of a node")
    } else {
        None
    }
}

/// Asks for every host once.
pub(crate) async fn ask(resolver: &Arc<dyn Resolve>, targets: &[Target]) -> HashMap<String, Found> {
    let hosts: BTreeSet<&String> = targets.iter().map(|target| &target.host).collect();
    let mut asked = JoinSet::new();
    for host in hosts {
        let (resolver, host) = (Arc::clone(resolver), host.clone());
        asked.spawn(async move {
            let found = one(&*resolver, &host).await;
            (host, found)
        });
    }
    asked.join_all().await.into_iter().collect()
}

async fn one(resolver: &dyn Resolve, host: &str) -> Found {
    if let Ok(ip) = host.parse::<IpAddr>() {
        // Not allowed in SRV, yet common, and clear.
        let family = if ip.is_ipv4() { Family::A } else { Family::Aaaa };
        return Found { answers: vec![(family, Ok(Answer::new(vec![ip])))] };
    }
    let mut six = resolver.addresses(host, Family::Aaaa);
    let mut four = resolver.addresses(host, Family::A);
    let (six, four) = tokio::select! {
        answer = &mut six => { let other = behind(&answer, four, (host, Family::A)).await; (answer, other) }
        answer = &mut four => { let other = behind(&answer, six, (host, Family::Aaaa)).await; (other, answer) }
    };
    Found { answers: vec![(Family::Aaaa, six), (Family::A, four)] }
}

/// The other family's answer: awaited with patience only while there is nothing else.
async fn behind(first: &Asked, other: impl Future<Output = Asked>, (host, family): (&str, Family)) -> Asked {
    if !first.as_ref().is_ok_and(|answer| !answer.records.is_empty()) {
        return other.await;
    }
    tokio::time::timeout(RESOLUTION_DELAY, other).await.unwrap_or_else(|_| {
        let reason = format!("no answer within {RESOLUTION_DELAY:?} of the other family's");
        Err(LookupError { kind: family.name(), name: host.to_owned(), reason })
    })
}
