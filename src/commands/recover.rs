//! `longshore recover`: a new group out of what one control node has.

use super::snapshot::{counted, counts, next_steps};
use crate::args::snapshot::Recover;
use crate::error::{Exit, Failed};
use crate::output::{self, Format};
use longshore_control::Remains;
use serde_json::{Value, json};

pub(super) async fn recover(args: &Recover, format: Format) -> anyhow::Result<()> {
    if !args.accept_lost_writes {
        let remains = longshore_control::inspect(&args.data)?;
        if format == Format::Json {
            output::json(&describe(&remains))?
        } else {
            print(&remains)?
        }
        let why = "nothing is changed. Look at every control node that is left, choose the one with the highest last term, \
                   then the highest last index, and only if a majority of the voters is lost for good run this there again \
                   with --accept-lost-writes: whatever only lost nodes had stored is given up";
        return Err(Failed::new(Exit::Conflict, why).into());
    }
    let (remains, founded) = longshore_control::recover(&args.data).await?;
    if format == Format::Json {
        let mut described = describe(&remains);
        described["founded"] = json!({"node": founded.node, "index": founded.index, "kept": founded.kept});
        return output::json(&described);
    }
    print(&remains)?;
    next_steps(&founded, &args.data, &remains.cluster)
}

fn print(remains: &Remains) -> anyhow::Result<()> {
    let known = match remains.committed {
        Some(committed) if committed < remains.last_index => {
            format!("up to {committed}; the {} behind it may be, and are kept", remains.last_index - committed)
        }
        Some(_) => "all of it".to_owned(),
        None => "none of it; it may be, and is kept".to_owned(),
    };
    let voter = |(id, name): &(longshore_wire::NodeId, Option<String>)| match name {
        Some(name) => format!("{name} ({id})"),
        None => id.to_string(),
    };
    let rows = [
        ("cluster", format!("{} ({})", remains.cluster, remains.cluster_id)),
        ("node", remains.node.to_string()),
        ("last", format!("term {}, index {}", remains.last_term, remains.last_index)),
        ("known to be committed", known),
        ("voters", remains.voters.iter().map(voter).collect::<Vec<_>>().join(", ")),
        ("holds", format!("{}; KV revision {}", counted(&remains.counts), remains.kv_revision)),
    ];
    rows.iter().try_for_each(|(name, text)| output::line(&format!("{name:<21} {}", output::plain(text))))
}

fn describe(remains: &Remains) -> Value {
    let voters = remains.voters.iter().map(|(id, name)| json!({"id": id, "name": name}));
    json!({
        "cluster": remains.cluster,
        "cluster_id": remains.cluster_id,
        "node": remains.node,
        "last_term": remains.last_term,
        "last_index": remains.last_index,
        "committed": remains.committed,
        "voters": voters.collect::<Vec<_>>(),
        "kv_revision": remains.kv_revision,
        "counts": counts(&remains.counts),
    })
}
