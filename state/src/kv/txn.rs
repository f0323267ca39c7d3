//! Transactions: comparisons, then one of two branches, all of it or nothing.
//!
//! Whatever can be refused is refused before the first write, so nothing has to be undone: a branch is first tried on a
//! clone, which is cheap.

use super::store::Store;
use longshore_wire::kv::{Compare, Condition, KvReply, MAX_TXN, MAX_TXN_BYTES, Txn, TxnOp, TxnReply};
use longshore_wire::{Code, Failure};

impl Store {
    /// Carries out a transaction whose answer may hold so many bytes of keys and values.
    pub(crate) fn txn(&mut self, txn: &Txn, room: usize) -> Result<TxnReply, Failure> {
        check_txn(txn)?;
        let unmet = txn.compare.iter().find_map(|compare| self.unmet(compare));
        let branch = if unmet.is_none() { &txn.then } else { &txn.otherwise };
        let mut tried = self.clone();
        let mut results = Vec::with_capacity(branch.len());
        let mut bytes = 0;
        for op in branch {
            let result = tried.carry_out(op)?;
            if let KvReply::Entry(Some(entry)) = &result {
                bytes += entry.key.len() + entry.value.len();
                check_answer(bytes, room)?;
            }
            results.push(result);
        }
        *self = tried;
        Ok(TxnReply { revision: self.revision(), unmet, results })
    }

    fn carry_out(&mut self, op: &TxnOp) -> Result<KvReply, Failure> {
        match op {
            TxnOp::Put { key, value, lease } => self.put(key, value, *lease),
            TxnOp::Delete { key } => self.delete(key),
            TxnOp::Get { key } => Ok(KvReply::Entry(self.get(key))),
        }
    }

    /// Why a comparison does not hold; `None` when it does.
    fn unmet(&self, compare: &Compare) -> Option<String> {
        let Compare { key, condition } = compare;
        let found = self.found(key).map(|record| (record.revision(), record.value_bytes()));
        match (condition, found) {
            (Condition::Absent, None) | (Condition::Exists, Some(_)) => None,
            (Condition::Absent, Some((revision, _))) => {
                Some(format!("'{key}' exists at revision {revision}; it was expected to be absent"))
            }
            (Condition::Exists, None) => Some(format!("'{key}' is absent; it was expected to exist")),
            (Condition::Revision(wanted), None) => {
                Some(format!("'{key}' is absent; it was expected at revision {wanted}"))
            }
            (Condition::Revision(wanted), Some((revision, _))) => {
                (*wanted != revision).then(|| format!("'{key}' is at revision {revision}; it was expected at {wanted}"))
            }
            (Condition::Value(_), None) => Some(format!("'{key}' is absent; it was expected with another value")),
            (Condition::Value(wanted), Some((revision, value))) => {
                let other = || format!("'{key}' has another value than expected since revision {revision}");
                (wanted != value).then(other)
            }
        }
    }
}

/// Refuses a transaction that is over the limits, whatever the store holds.
///
/// # Errors
/// [`Code::TooLarge`] and [`Code::Invalid`], with what is wrong.
pub fn check_txn(txn: &Txn) -> Result<(), Failure> {
    let most = txn.compare.len().max(txn.then.len()).max(txn.otherwise.len());
    if most > MAX_TXN {
        let message =
            format!("a transaction with {most} comparisons or operations in one list; the limit is {MAX_TXN}");
        return Err(Failure::new(Code::TooLarge, message));
    }
    let compared = txn.compare.iter().map(|compare| match &compare.condition {
        Condition::Value(value) => compare.key.len() + value.len(),
        _ => compare.key.len(),
    });
    let written = txn.then.iter().chain(&txn.otherwise).map(|op| match op {
        TxnOp::Put { key, value, .. } => key.len() + value.len(),
        TxnOp::Delete { key } | TxnOp::Get { key } => key.len(),
    });
    let bytes: usize = compared.chain(written).sum();
    if bytes > MAX_TXN_BYTES {
        let message = format!("a transaction with {bytes} bytes of keys and values; the limit is {MAX_TXN_BYTES}");
        return Err(Failure::new(Code::TooLarge, message));
    }
    let keys = txn.compare.iter().map(|compare| &compare.key).chain(txn.then.iter().chain(&txn.otherwise).map(key));
    keys.into_iter().try_for_each(|key| super::store::check_key(key))
}

fn key(op: &TxnOp) -> &String {
    match op {
        TxnOp::Put { key, .. } | TxnOp::Delete { key } | TxnOp::Get { key } => key,
    }
}

fn check_answer(bytes: usize, room: usize) -> Result<(), Failure> {
    if bytes > MAX_TXN_BYTES {
        let message = format!("the transaction would read more than {MAX_TXN_BYTES} bytes; read less in one");
        return Err(Failure::new(Code::TooLarge, message));
    }
    if bytes > room {
        let message = "other transactions of this moment read too much already; try again";
        return Err(Failure::new(Code::Busy, message));
    }
    Ok(())
}
