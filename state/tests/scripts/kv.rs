//! The key-value store in scripts.
//!
//! A transaction is words: `KEY?` must exist, `KEY?absent`, `KEY?REVISION`, `KEY?=VALUE`; then `KEY:=VALUE` writes, with
//! `@LEASE` behind it under a lease, `-KEY` deletes, `KEY` reads; behind `else` the other branch.

use super::{Line, Runner, show_entry};
use longshore_wire::kv::{Compare, Condition, KvReply, Txn, TxnOp, TxnReply};

impl Runner {
    /// `watch AFTER [prefix=P]`: the changes behind a revision
    pub(super) fn watch(&mut self, line: &Line) {
        let changes = self.state.kv_changes(line.word(1).parse().unwrap());
        let Ok(changes) = changes.map(|changes| changes.cloned().collect::<Vec<_>>()) else {
            let text = format!("gap: all up to {} is forgotten", self.state.kv_compacted());
            return self.answer(&text);
        };
        for change in changes.iter().filter(|change| change.key().starts_with(line.option("prefix"))) {
            let deleted = || format!("{} deleted, revision {}", change.key(), change.revision());
            self.answer(&change.entry().as_ref().map_or_else(deleted, show_entry));
        }
        self.answer("end");
    }

    pub(super) fn leases(&mut self) {
        let ids: Vec<u64> = self.state.leases().map(|(lease, _)| lease.id).collect();
        for id in ids {
            let (lease, keys) = self.state.lease(id).unwrap();
            let keys: Vec<&str> = keys.collect();
            let text = format!("{id}: {} ms, renewed {} times [{}]", lease.ttl_ms, lease.renewals, keys.join(" "));
            self.answer(&text);
        }
        self.answer("end");
    }
}

pub(super) fn txn(words: &[String]) -> Txn {
    let mut txn = Txn::default();
    let mut other = false;
    for word in words {
        if let Some((key, asked)) = word.split_once('?') {
            txn.compare.push(Compare { key: key.to_owned(), condition: condition(asked) });
        } else if word == "else" {
            other = true;
        } else if other {
            txn.otherwise.push(op(word));
        } else {
            txn.then.push(op(word));
        }
    }
    txn
}

fn condition(asked: &str) -> Condition {
    match asked {
        "" => Condition::Exists,
        "absent" => Condition::Absent,
        value if value.starts_with('=') => Condition::Value(value[1..].into()),
        revision => Condition::Revision(revision.parse().unwrap()),
    }
}

fn op(word: &str) -> TxnOp {
    if let Some(key) = word.strip_prefix('-') {
        return TxnOp::Delete { key: key.to_owned() };
    }
    let Some((key, value)) = word.split_once(":=") else { return TxnOp::Get { key: word.to_owned() } };
    let (value, lease) = value.split_once('@').map_or((value, None), |(value, lease)| (value, lease.parse().ok()));
    TxnOp::Put { key: key.to_owned(), value: value.into(), lease }
}

pub(super) fn show_reply(reply: &KvReply) -> String {
    match reply {
        KvReply::Written { revision, created } => {
            format!("revision {revision}{}", if *created { ", created" } else { "" })
        }
        KvReply::Deleted { revision, existed } => {
            format!("revision {revision}{}", if *existed { ", deleted" } else { ", was absent" })
        }
        KvReply::Entry(entry) => entry.as_ref().map_or_else(|| "absent".to_owned(), show_entry),
        other @ KvReply::Entries { .. } => panic!("{other:?}"),
    }
}

pub(super) fn show_txn(reply: &TxnReply) -> String {
    let unmet = reply.unmet.as_ref().map(|why| format!(" but {why}")).unwrap_or_default();
    let results: String = reply.results.iter().map(|result| format!("\n  {}", show_reply(result))).collect();
    format!("done at revision {}{unmet}{results}", reply.revision)
}
