//! `longshore discover`: the endpoints behind a cluster URI, and the records behind each.

use crate::args::local::Discover;
use crate::error::{Exit, Failed};
use crate::output::{self, Format, Table};
use longshore_discovery::{Discovery, ResolverOptions};
use serde_json::json;

pub(super) async fn discover(args: Discover, format: Format) -> anyhow::Result<()> {
    let options = ResolverOptions { nameservers: args.dns.into_iter().collect(), ..ResolverOptions::default() };
    let found = Discovery::new(options)?
        .resolve(&args.uri)
        .await
        .map_err(|error| Failed::new(Exit::NotFound, error.to_string()))?;
    if format == Format::Json {
        let endpoints = found.endpoints.iter().zip(&found.trails).map(|(endpoint, trail)| {
            json!({
                "transport": endpoint.transport,
                "address": endpoint.address,
                "host": endpoint.host,
                "path": endpoint.path,
                "records": trail,
            })
        });
        let steps: Vec<String> = found.steps.iter().map(ToString::to_string).collect();
        return output::json(&json!({"endpoints": endpoints.collect::<Vec<_>>(), "asked": steps}));
    }
    let mut table = Table::new(&["ORDER", "ENDPOINT", "RECORDS"], format == Format::Wide);
    for (number, (endpoint, trail)) in found.endpoints.iter().zip(&found.trails).enumerate() {
        let records = if trail.is_empty() { "address in the URI".to_owned() } else { trail.join(" -> ") };
        table.row(vec![(number + 1).to_string(), endpoint.to_string(), records]);
    }
    table.print()?;
    if format == Format::Wide {
        found.steps.iter().for_each(|step| output::say(&format!("asked: {step}")));
    }
    Ok(())
}
