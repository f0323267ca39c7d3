//! From `[proxy]` to what the transport dials through.

use longshore_config::{Config, ProxyScheme, ProxySource};
use longshore_transport::{Login, Proxy, ProxyKind};
use longshore_wire::{Endpoint, Role};

/// The proxy of what runs in this role. `HTTPS_PROXY` is no word about how control nodes reach each other.
pub(super) fn proxy(config: &Config, role: Role) -> Option<Proxy> {
    let proxy = config.proxy.as_ref().filter(|proxy| {
        // A control node follows what was written for it.
        role == Role::Worker || proxy.source == ProxySource::Configuration
    })?;
    let url = &proxy.url;
    let kind = match url.scheme {
        ProxyScheme::Http => ProxyKind::Http,
        ProxyScheme::Https => ProxyKind::Https,
        ProxyScheme::Socks5 => ProxyKind::Socks5,
        ProxyScheme::Socks5h => ProxyKind::Socks5h,
    };
    let login = url.user.as_ref().map(|user| Login::new(user.clone(), url.password.clone().unwrap_or_default()));
    let exceptions = proxy.no_proxy.clone();
    let bypass = move |endpoint: &Endpoint| {
        let address = (!endpoint.is_unresolved()).then(|| endpoint.address.ip());
        exceptions.covers(&endpoint.host, address, endpoint.address.port())
    };
    Some(Proxy::new(kind, url.host.clone(), url.port, login, Box::new(bypass)))
}
