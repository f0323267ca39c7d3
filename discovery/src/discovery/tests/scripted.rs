//! What zones can say, without a wire.

use super::script::Script;
use crate::{Discovery, DiscoveryError, Resolution};
use longshore_wire::ClusterUri;
use std::sync::Arc;

const WSS: &str = "_longshore._wss.c.test";

async fn resolve(script: &Arc<Script>, uri: &str) -> Result<Resolution, DiscoveryError> {
    Discovery::with_resolver(script.clone()).resolve(&uri.parse().unwrap()).await
}

async fn shown(script: &Arc<Script>, uri: &str) -> Vec<String> {
    resolve(script, uri).await.unwrap().endpoints.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn half_an_answer_is_used_and_marked() {
    let script = Arc::new(Script::default());
    script.srv("_longshore._tls.c.test", &[(0, 0, 1, "dead.test"), (0, 0, 1, "live.test")]);
    script.down("A", "dead.test");
    script.ips("live.test", &["127.0.0.1"]);
    let found = resolve(&script, "longshore://c.test").await.unwrap();
    assert!(found.stale && found.age.is_none());
    assert_eq!(found.endpoints.len(), 1);
}

/// Only the question about the shape fails, and the names have addresses: with something known, nobody guesses.
#[tokio::test]
async fn what_is_known_goes_before_a_guess() {
    for kind in ["NAPTR", "SRV"] {
        let script = Arc::new(Script::default());
        script.naptr("c.test", &[(1, 1, "s", "LSS+D2W", WSS)]);
        script.srv(WSS, &[(0, 0, 7001, "a.test")]);
        script.ips("a.test", &["10.0.0.1"]);
        script.ips("c.test", &["10.0.0.9"]);
        script.ips(WSS, &["10.0.0.8"]);
        let (discovery, uri) = (Discovery::with_resolver(script.clone()), "longshore://c.test".parse().unwrap());
        let known = discovery.resolve(&uri).await.unwrap();
        script.down(kind, if kind == "SRV" { WSS } else { "c.test" });
        let stale = discovery.resolve(&uri).await.unwrap();
        assert!(stale.stale);
        assert_eq!(stale.endpoints, known.endpoints, "{kind} is down: no guess beside what is known");
    }
}

#[tokio::test]
async fn families_take_turns_within_each_target() {
    let script = Arc::new(Script::default());
    script.srv(WSS, &[(1, 0, 7001, "a.test"), (2, 0, 7002, "b.test")]);
    script.ips("a.test", &["10.0.0.1", "10.0.0.2", "fd00::1"]);
    script.ips("b.test", &["10.0.1.1", "fd00::2"]);
    let found = resolve(&script, "longshore://c.test;transport=wss").await.unwrap();
    let order: Vec<(u16, bool)> =
        found.endpoints.iter().map(|endpoint| (endpoint.address.port(), endpoint.address.is_ipv6())).collect();
    assert_eq!(order, [(7001, true), (7001, false), (7001, false), (7002, true), (7002, false)]);
}

#[tokio::test]
async fn one_silent_family_holds_nobody_up() {
    let script = Arc::new(Script::default());
    script.ips("c.test", &["10.0.0.1"]);
    script.never("AAAA", "c.test");
    let found = resolve(&script, "longshore://c.test:1").await.unwrap();
    assert!(!found.stale, "the other family is enough");
    assert_eq!(found.endpoints.len(), 1);
    assert!(found.steps[0].to_string().contains("AAAA c.test: failed"), "{:?}", found.steps);
}

#[tokio::test]
async fn a_service_that_is_decidedly_not_there_is_not_guessed() {
    let script = Arc::new(Script::default());
    script.ips("c.test", &["10.0.0.1"]);
    script.srv("_longshore._tls.c.test", &[(0, 0, 0, ".")]);
    let error = resolve(&script, "longshore://c.test").await.unwrap_err();
    assert!(error.to_string().contains("decidedly not there"), "{error}");
    assert_eq!(script.asked("A", "c.test"), 0);
    // By NAPTR the next service follows.
    script.naptr("c.test", &[(1, 1, "s", "LSS+D2T", "_longshore._tls.c.test"), (2, 1, "s", "LSS+D2W", WSS)]);
    script.srv(WSS, &[(0, 0, 7003, "c.test")]);
    assert_eq!(shown(&script, "longshore://c.test").await, ["wss://10.0.0.1:7003/longshore (c.test)"]);
}

#[tokio::test]
async fn naptr_leads_to_addresses_and_to_further_naptr() {
    let script = Arc::new(Script::default());
    script.naptr("c.test", &[(1, 1, "", "", "d.test"), (2, 1, "a", "LSS+D2W", "edge.test")]);
    script.naptr("d.test", &[(1, 1, "s", "NKS+D2W", WSS), (1, 2, "", "", "c.test")]);
    script.srv(WSS, &[(0, 0, 7003, "h.test")]);
    script.ips("h.test", &["10.0.0.1"]);
    script.ips("edge.test", &["10.0.0.2"]);
    let found = resolve(&script, "longshore://c.test").await.unwrap();
    let shown: Vec<String> = found.endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["wss://10.0.0.1:7003/longshore (h.test)", "wss://10.0.0.2:8143/longshore (edge.test)"]);
    assert_eq!(found.trails[0].len(), 4, "{:?}", found.trails);
    let told: Vec<String> = found.steps.iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|step| step.starts_with("NAPTR c.test: not asked again")), "{told:#?}");
    assert_eq!(script.asked("NAPTR", "c.test"), 1);
}

#[tokio::test]
async fn naptr_without_end_costs_a_bounded_number_of_questions() {
    let script = Arc::new(Script::default());
    for number in 0..500 {
        let (one, other) = (format!("n{}.test", 2 * number + 1), format!("n{}.test", 2 * number + 2));
        let name = if number == 0 { "c.test".to_owned() } else { format!("n{number}.test") };
        script.naptr(&name, &[(1, 1, "", "", &one), (1, 1, "", "", &other)]);
    }
    // A chain, deeper than the tree.
    for number in 500..2000 {
        script.naptr(&format!("n{number}.test"), &[(1, 1, "", "", &format!("n{}.test", number + 1))]);
    }
    let error = resolve(&script, "longshore://c.test").await.unwrap_err();
    assert!(error.to_string().contains("too many questions"), "{error}");
    assert!(script.questions() <= 70, "{}", script.questions());
}

#[tokio::test]
async fn thousands_of_records_are_cut_to_a_handful() {
    let script = Arc::new(Script::default());
    let names: Vec<String> = (0..4000).map(|number| format!("h{number}.test")).collect();
    let records: Vec<_> = names.iter().map(|name| (0, 0, 1, name.as_str())).collect();
    script.srv(WSS, &records);
    let ips: Vec<String> = (0..4000).map(|number| format!("10.1.{}.{}", number / 250, number % 250)).collect();
    let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
    names.iter().take(100).for_each(|name| script.ips(name, &ips));
    names.iter().skip(100).for_each(|name| script.ips(name, &["10.0.0.1"]));
    let found = resolve(&script, "longshore://c.test;transport=wss").await.unwrap();
    assert!((1..=256).contains(&found.endpoints.len()));
    assert_eq!(script.questions(), 1 + 2 * 32);
    assert!(found.steps.iter().all(|step| step.to_string().len() < 4000), "what is told is bounded too");
    let all = resolve(&script, "longshore://h1.test:1").await.unwrap();
    assert_eq!(all.endpoints.len(), 256);
}

#[tokio::test]
async fn addresses_that_are_no_nodes_are_never_dialled() {
    let script = Arc::new(Script::default());
    script.ips("c.test", &["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1", "10.0.0.1"]);
    assert_eq!(shown(&script, "longshore://c.test:1").await, ["tls://10.0.0.1:1 (c.test)"]);
    script.srv(WSS, &[(0, 0, 0, "c.test")]);
    let error = resolve(&script, "longshore://c.test;transport=wss").await.unwrap_err();
    assert!(error.to_string().contains("port 0"), "{error}");
}

#[tokio::test]
async fn dns_that_comes_back_is_believed_again() {
    let script = Arc::new(Script::default());
    let discovery = Discovery::with_resolver(script.clone());
    let uri: ClusterUri = "longshore://c.test:1".parse().unwrap();
    script.down("A", "c.test");
    assert!(matches!(discovery.resolve(&uri).await, Err(DiscoveryError::Unreachable { .. })), "down at the start");
    script.ips("c.test", &["10.0.0.1"]);
    let first = discovery.resolve(&uri).await.unwrap();
    script.down("A", "c.test");
    script.down("AAAA", "c.test");
    let stale = discovery.resolve(&uri).await.unwrap();
    assert!(stale.stale && stale.age.is_some() && stale.endpoints == first.endpoints);
    script.ips("c.test", &["10.0.0.2"]);
    let fresh = discovery.resolve(&uri).await.unwrap();
    assert!(!fresh.stale && fresh.age.is_none());
    assert_eq!(fresh.endpoints[0].address.to_string(), "10.0.0.2:1");
}
