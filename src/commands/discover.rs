//! `longshore discover`: what DNS says of a cluster URI, question by question, and the endpoints that come of it.

use super::explain;
use crate::args::local::Discover;
use crate::error::{Exit, Failed};
use crate::output::{self, Format, Table};
use longshore_discovery::{Discovery, DiscoveryError, Resolution, ResolverOptions, Step};
use serde_json::{Value, json};

pub(super) async fn discover(args: Discover, format: Format) -> anyhow::Result<()> {
    let options = ResolverOptions { nameservers: args.dns.into_iter().collect(), ..ResolverOptions::default() };
    match Discovery::new(options)?.resolve(&args.uri).await {
        Ok(found) => print(&found, format),
        Err(error) => fail(&error, format),
    }
}

fn print(found: &Resolution, format: Format) -> anyhow::Result<()> {
    let advice = advice(found);
    if format == Format::Json {
        let endpoints: Vec<Value> = endpoints(found);
        return output::json(&json!({
            "endpoints": endpoints,
            "steps": explain::json(&found.steps),
            "ttl_s": found.ttl.map(|ttl| ttl.as_secs()),
            "stale": found.stale,
            "advice": advice,
        }));
    }
    if !found.steps.is_empty() {
        explain::table(&found.steps, format).print()?;
        output::line("")?;
    }
    let mut table = Table::new(&["ORDER", "ENDPOINT", "BECAUSE OF"], format == Format::Wide);
    for (number, (endpoint, trail)) in found.endpoints.iter().zip(&found.trails).enumerate() {
        table.row(vec![(number + 1).to_string(), endpoint.to_string(), because(trail)]);
    }
    table.print()?;
    output::line("")?;
    output::line(&advice)
}

fn endpoints(found: &Resolution) -> Vec<Value> {
    let one = |(endpoint, trail): (&longshore_wire::Endpoint, &Vec<String>)| {
        json!({
            "transport": endpoint.transport,
            "address": endpoint.address,
            "host": endpoint.host,
            "path": endpoint.path,
            "records": trail,
        })
    };
    found.endpoints.iter().zip(&found.trails).map(one).collect()
}

/// The records behind an endpoint without the names, which the questions above tell.
fn because(trail: &[String]) -> String {
    if trail.is_empty() {
        return "the address in the URI".to_owned();
    }
    let short = |record: &String| {
        let mut words = record.split(' ');
        match (words.next(), words.next(), words.next()) {
            (Some(kind @ ("NAPTR" | "SRV")), Some(first), Some(second)) => format!("{kind} {first} {second}"),
            (Some(kind), ..) => kind.to_owned(),
            (None, ..) => String::new(),
        }
    };
    trail.iter().map(short).collect::<Vec<_>>().join(" > ")
}

/// One line: what to make of it.
fn advice(found: &Resolution) -> String {
    let plain = found.endpoints.iter().any(|endpoint| !endpoint.transport.is_encrypted());
    let count = found.endpoints.len();
    if found.stale {
        return "Some name servers did not answer, so this may not be all: check them, or say whom to ask with --dns IP".to_owned();
    }
    let rest = match (plain, count) {
        (true, _) => {
            "Some are NOT encrypted: if you do not want that, remove the LS+D2T and LS+D2W records or the transport"
        }
        (false, 1) => "Whether it lets a node in, `longshore doctor -c FILE` tries",
        (false, _) => "Whether they let a node in, `longshore doctor -c FILE` tries",
    };
    match count {
        1 => format!("One endpoint. {rest}."),
        _ => format!("{count} endpoints, dialled in this order, the next 250 ms behind the former. {rest}."),
    }
}

/// The questions that led nowhere, then why.
fn fail(error: &DiscoveryError, format: Format) -> anyhow::Result<()> {
    let (steps, exit): (&[Step], Exit) = match error {
        DiscoveryError::NotFound { steps, .. } => (steps, Exit::NotFound),
        DiscoveryError::Unreachable { steps, .. } => (steps, Exit::Unreachable),
        _ => (&[], Exit::Failed),
    };
    if format == Format::Json {
        output::json(&json!({"endpoints": [], "steps": explain::json(steps), "advice": error.to_string()}))?;
    } else if !steps.is_empty() {
        explain::table(steps, format).print()?;
        output::line("")?;
    }
    // The steps stand above; the sentence repeats none of them.
    let why = match error {
        DiscoveryError::NotFound { uri, .. } => {
            format!("{uri}: no address found; check the name, add records to its zone, or give an IP address")
        }
        DiscoveryError::Unreachable { uri, .. } => {
            format!("{uri}: DNS does not answer; check the name servers, or say whom to ask with --dns IP")
        }
        other => other.to_string(),
    };
    Err(Failed::new(exit, why).into())
}
