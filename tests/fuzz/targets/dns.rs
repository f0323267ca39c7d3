//! DNS answers to endpoints: whatever a zone says, the list is bounded and nobody is led to plaintext unasked.

use super::common::with_town;
use longshore_discovery::{Answer, Discovery, Family, Lookup, LookupError, Naptr, Resolve, Srv};
use longshore_wire::ClusterUri;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

/// Answers out of the fuzzer's bytes, one after the other.
struct Zone {
    bytes: Mutex<std::vec::IntoIter<u8>>,
    /// Whether a NAPTR record has named plaintext.
    plain: Mutex<bool>,
}

impl Zone {
    fn byte(&self) -> u8 {
        self.bytes.lock().expect("no panic holds it").next().unwrap_or(0)
    }

    fn short(&self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    fn text(&self, common: &[&str]) -> String {
        match usize::from(self.byte()) {
            choice if choice < 2 * common.len() => common[choice / 2].to_owned(),
            choice => (0..choice % 24).map(|_| char::from(self.byte())).collect(),
        }
    }

    fn answer<T>(&self, kind: &'static str, name: &str, one: impl Fn() -> T) -> Result<Answer<T>, LookupError> {
        match self.byte() {
            255 => Err(LookupError { kind, name: name.to_owned(), reason: "nobody answered".to_owned() }),
            count => Ok(Answer::new((0..count % 48).map(|_| one()).collect())),
        }
    }
}

const HOSTS: &[&str] = &["c1.test", "c2.test.", ".", "", "10.0.0.1", "_longshore._wss.c.test", "::1"];

impl Resolve for Zone {
    fn naptr<'a>(&'a self, name: &'a str) -> Lookup<'a, Naptr> {
        let services = &["LSS+D2W", "lss+d2t", "LS+D2W", "NK+D2T", "NKS+D2W", "LSS+D2Q", "SIP+D2U"];
        Box::pin(std::future::ready(self.answer("NAPTR", name, || {
            let record = Naptr {
                order: self.short(),
                preference: self.short(),
                flags: self.text(&["s", "S", "a", "u", ""]),
                services: self.text(services),
                regexp: String::new(),
                replacement: self.text(HOSTS),
            };
            let named = record.services.to_ascii_uppercase();
            *self.plain.lock().expect("no panic holds it") |= named.starts_with("LS+") || named.starts_with("NK+");
            record
        })))
    }

    fn srv<'a>(&'a self, name: &'a str) -> Lookup<'a, Srv> {
        Box::pin(std::future::ready(self.answer("SRV", name, || Srv {
            priority: self.short(),
            weight: self.short(),
            port: self.short(),
            target: self.text(HOSTS),
        })))
    }

    fn addresses<'a>(&'a self, name: &'a str, family: Family) -> Lookup<'a, IpAddr> {
        Box::pin(std::future::ready(self.answer(family.name(), name, || match family {
            Family::A => IpAddr::from([10, 0, self.byte(), self.byte()]),
            Family::Aaaa => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, self.short(), self.short()]),
        })))
    }
}

/// The first byte chooses the URI.
pub(crate) fn run(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let uris =
        ["longshore://c.test", "longshore://c.test;transport=wss", "longshore://c.test:9", "longshore://c.test."];
    let uri: ClusterUri = uris[usize::from(*choice) % uris.len()].parse().expect("a URI");
    let zone = Arc::new(Zone { bytes: Mutex::new(Vec::from(bytes).into_iter()), plain: Mutex::new(false) });
    let discovery = Discovery::with_resolver(Arc::clone(&zone) as Arc<dyn Resolve>);
    let found = with_town(|town| town.runtime.block_on(discovery.resolve(&uri)));
    let Ok(found) = found else { return };
    assert!(found.endpoints.len() <= 256, "a zone can name no more");
    assert_eq!(found.endpoints.len(), found.trails.len());
    let plain = found.endpoints.iter().any(|endpoint| !endpoint.transport.is_encrypted());
    assert!(!plain || *zone.plain.lock().expect("no panic holds it"), "led to plaintext that nobody named");
    assert!(uri.transport.is_none() || !plain, "the URI's transport counts");
}
