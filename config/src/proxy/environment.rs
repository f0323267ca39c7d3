//! `HTTPS_PROXY` and `NO_PROXY`, as curl reads them: lower case first, empty means unset, `http://` may be left out.

use super::{NoProxy, ProxyUrl};
use crate::ConfigError;

/// The variables of a process that concern proxies.
#[derive(Debug, Clone, Default)]
pub(crate) struct Variables {
    url: Option<(String, String)>,
    exceptions: Option<String>,
}

impl Variables {
    /// Takes a variable, if it is one of these.
    pub(crate) fn take(&mut self, name: &str, value: &str) {
        if value.trim().is_empty() {
            return;
        }
        match name {
            "https_proxy" => self.url = Some((name.to_owned(), value.to_owned())),
            "HTTPS_PROXY" if self.url.is_none() => self.url = Some((name.to_owned(), value.to_owned())),
            "no_proxy" => self.exceptions = Some(value.to_owned()),
            "NO_PROXY" if self.exceptions.is_none() => self.exceptions = Some(value.to_owned()),
            _ => {}
        }
    }

    /// The proxy, if one is named. A wrong one is refused: to dial past a proxy is not what was asked for.
    pub(crate) fn url(&self) -> Result<Option<ProxyUrl>, ConfigError> {
        let Some((name, value)) = &self.url else { return Ok(None) };
        let value = value.trim();
        let whole = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
        let wrong = |why: &str| ConfigError::Variable { name: name.clone(), message: why.to_owned() };
        whole.parse().map(Some).map_err(wrong)
    }

    /// The exceptions. What other programs understand and this one does not is passed over.
    pub(crate) fn exceptions(&self) -> NoProxy {
        let entries = self.exceptions.iter().flat_map(|text| text.split([',', ' ', '\t']));
        NoProxy::new(entries.filter_map(|entry| entry.parse().ok()).collect())
    }
}
