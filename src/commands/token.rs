//! `longshore token`: who may use the API over the network.

use super::node::time;
use super::{Remote, items};
use crate::args::token::{Create, Scope, Token};
use crate::client::{Call, path};
use crate::output::{self, Format, Table, cell};
use hyper::Method;
use serde_json::json;

pub(super) async fn token(remote: &Remote, args: Token) -> anyhow::Result<()> {
    match args {
        Token::Create(args) => create(remote, &args).await,
        Token::List => {
            let all = remote.client.json(Call::get("/v1/tokens")).await?;
            remote.print(&all, |all| {
                let mut table = Table::new(&["NAME", "SCOPE", "CREATED", "EXPIRES", "EXPIRED"], remote.wide());
                for token in items(all) {
                    let expired = if token["expired"] == true { "yes" } else { "no" };
                    let when = |name: &str| token[name].as_u64().map_or_else(|| "-".to_owned(), time);
                    let (made, ends) = (when("created"), when("expires"));
                    table.row(vec![cell(&token["name"]), cell(&token["scope"]), made, ends, expired.to_owned()]);
                }
                table.print()
            })
        }
        Token::Revoke { name } => {
            let call = Call::new(Method::DELETE, path("/v1/tokens/{}", &[&name]));
            let answer = remote.client.json(call).await?;
            remote.print(&answer, |_| output::line(&format!("token '{name}' is revoked")))
        }
    }
}

async fn create(remote: &Remote, args: &Create) -> anyhow::Result<()> {
    let scope = match args.scope {
        Scope::Read => "read",
        Scope::Operate => "operate",
        Scope::Admin => "admin",
    };
    let expires = args.expires.map(|expires| u64::try_from(expires.as_millis()).unwrap_or(u64::MAX));
    let body = json!({"name": args.name, "scope": scope, "expires_in_ms": expires});
    let made = remote.client.json(Call::post("/v1/tokens", &body)).await?;
    if remote.format == Format::Json {
        return output::json(&made);
    }
    output::say(&format!(
        "token '{}' with the scope {scope} is made; this is shown once, keep it in a file:",
        args.name
    ));
    output::line(&cell(&made["token"]))
}
