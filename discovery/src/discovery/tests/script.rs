//! A resolver that says what it is told to say, and counts the questions.

use crate::{Absent, Answer, Family, Lookup, LookupError, Naptr, Resolve, Srv};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

type Question = (&'static str, String);

#[derive(Clone)]
enum Reply {
    Naptr(Vec<Naptr>),
    Srv(Vec<Srv>),
    Ips(Vec<IpAddr>),
    Absent(Option<u64>),
    Down,
    Never,
}

/// What is not scripted does not exist.
#[derive(Default)]
pub(crate) struct Script {
    replies: Mutex<HashMap<Question, Reply>>,
    asked: Mutex<HashMap<Question, usize>>,
}

impl Script {
    fn put(&self, kind: &'static str, name: &str, reply: Reply) {
        self.replies.lock().unwrap().insert((kind, name.to_owned()), reply);
    }

    pub(crate) fn naptr(&self, name: &str, records: &[(u16, u16, &str, &str, &str)]) {
        let record = |(order, preference, flags, services, replacement): &(u16, u16, &str, &str, &str)| Naptr {
            order: *order,
            preference: *preference,
            flags: (*flags).to_owned(),
            services: (*services).to_owned(),
            regexp: String::new(),
            replacement: (*replacement).to_owned(),
        };
        self.put("NAPTR", name, Reply::Naptr(records.iter().map(record).collect()));
    }

    pub(crate) fn srv(&self, name: &str, records: &[(u16, u16, u16, &str)]) {
        let record = |(priority, weight, port, target): &(u16, u16, u16, &str)| Srv {
            priority: *priority,
            weight: *weight,
            port: *port,
            target: (*target).to_owned(),
        };
        self.put("SRV", name, Reply::Srv(records.iter().map(record).collect()));
    }

    pub(crate) fn ips(&self, name: &str, ips: &[&str]) {
        let all = ips.iter().map(|ip| ip.parse::<IpAddr>().unwrap());
        let (six, four): (Vec<IpAddr>, Vec<IpAddr>) = all.partition(IpAddr::is_ipv6);
        for (kind, ips) in [("AAAA", six), ("A", four)] {
            self.put(kind, name, if ips.is_empty() { Reply::Absent(None) } else { Reply::Ips(ips) });
        }
    }

    pub(crate) fn absent(&self, kind: &'static str, name: &str, ttl: Option<u64>) {
        self.put(kind, name, Reply::Absent(ttl));
    }

    pub(crate) fn down(&self, kind: &'static str, name: &str) {
        self.put(kind, name, Reply::Down);
    }

    pub(crate) fn never(&self, kind: &'static str, name: &str) {
        self.put(kind, name, Reply::Never);
    }

    /// How often this was asked.
    pub(crate) fn asked(&self, kind: &'static str, name: &str) -> usize {
        self.asked.lock().unwrap().get(&(kind, name.to_owned())).copied().unwrap_or(0)
    }

    /// How many questions there were.
    pub(crate) fn questions(&self) -> usize {
        self.asked.lock().unwrap().values().sum()
    }

    async fn answer<T>(
        &self,
        kind: &'static str,
        name: &str,
        pick: impl Fn(Reply) -> Option<Vec<T>>,
    ) -> Result<Answer<T>, LookupError> {
        let question = (kind, name.to_owned());
        *self.asked.lock().unwrap().entry(question.clone()).or_insert(0) += 1;
        let reply = self.replies.lock().unwrap().get(&question).cloned();
        match reply {
            None => Ok(Answer::none(Absent::Name, None)),
            Some(Reply::Absent(ttl)) => Ok(Answer::none(Absent::Record, ttl.map(Duration::from_secs))),
            Some(Reply::Down) => Err(LookupError { kind, name: name.to_owned(), reason: "gone".to_owned() }),
            Some(Reply::Never) => std::future::pending().await,
            Some(reply) => Ok(Answer::new(pick(reply).expect("records of the type asked for"))),
        }
    }
}

impl Resolve for Script {
    fn naptr<'a>(&'a self, name: &'a str) -> Lookup<'a, Naptr> {
        let pick = |reply| if let Reply::Naptr(records) = reply { Some(records) } else { None };
        Box::pin(self.answer("NAPTR", name, pick))
    }

    fn srv<'a>(&'a self, name: &'a str) -> Lookup<'a, Srv> {
        let pick = |reply| if let Reply::Srv(records) = reply { Some(records) } else { None };
        Box::pin(self.answer("SRV", name, pick))
    }

    fn addresses<'a>(&'a self, name: &'a str, family: Family) -> Lookup<'a, IpAddr> {
        let pick = |reply| if let Reply::Ips(ips) = reply { Some(ips) } else { None };
        Box::pin(self.answer(family.name(), name, pick))
    }
}
