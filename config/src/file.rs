//! One source of configuration: every key optional. The single list of keys that exist.

use crate::values::{List, NameServer, Span};
use crate::{ApiTls, Listen, Loopback, NoProxyRule, OnStop, Parting, ProxyUrl};
use longshore_wire::uri::TlsVerify;
use longshore_wire::{ClusterUri, Labels, Role};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;

/// How a value is written in an environment variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// As text.
    Text,
    /// As texts with commas between them.
    Texts,
    /// As a number.
    Number,
}

/// One key of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) section: &'static str,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
}

/// Declares the sections once, and from that: the types, how a later source replaces an earlier one, and the list of
/// keys that the error messages and the environment use.
macro_rules! sections {
    ($($section:ident $type:ident { $($key:ident: $value:ty, $kind:ident;)* })*) => {
        $(
            #[derive(Debug, Clone, Default, Deserialize)]
            #[serde(deny_unknown_fields)]
            pub(crate) struct $type {
                $(pub(crate) $key: Option<$value>,)*
            }

            impl $type {
                fn replace_by(&mut self, later: Self) {
                    $(if later.$key.is_some() { self.$key = later.$key; })*
                }
            }
        )*

        /// All keys of one source.
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(crate) struct File {
            $(pub(crate) $section: $type,)*
            pub(crate) listen: Option<Vec<Listen>>,
        }

        impl File {
            /// Puts a later source over this one.
            pub(crate) fn replace_by(&mut self, later: Self) {
                $(self.$section.replace_by(later.$section);)*
                if later.listen.is_some() {
                    self.listen = later.listen;
                }
            }
        }

        /// Every key that there is.
        pub(crate) const KEYS: &[Key] = &[
            $($(Key { section: stringify!($section), name: stringify!($key), kind: Kind::$kind },)*)*
            Key { section: LISTEN, name: "uri", kind: Kind::Text },
            Key { section: LISTEN, name: "advertise", kind: Kind::Text },
        ];
    };
}

/// The one section that may stand several times.
pub(crate) const LISTEN: &str = "listen";

sections! {
    node NodeFile {
        name: String, Text;
        roles: List<Role>, Texts;
        data_dir: PathBuf, Text;
        labels: Labels, Text;
    }
    cluster ClusterFile {
        name: String, Text;
        discovery: List<ClusterUri>, Texts;
    }
    auth AuthFile {
        secret_file: PathBuf, Text;
        credential: String, Text;
        worker_secret_file: PathBuf, Text;
        worker_credential: String, Text;
        verifiers_file: PathBuf, Text;
    }
    tls TlsFile {
        cert_file: PathBuf, Text;
        key_file: PathBuf, Text;
        ca_file: PathBuf, Text;
        pin_file: PathBuf, Text;
        verify: TlsVerify, Text;
    }
    proxy ProxyFile {
        url: ProxyUrl, Text;
        no_proxy: List<NoProxyRule>, Texts;
    }
    api ApiFile {
        listen: List<SocketAddr>, Texts;
        socket: PathBuf, Text;
        loopback: Loopback, Text;
        tls: ApiTls, Text;
    }
    dns DnsFile {
        nameservers: List<NameServer>, Texts;
        timeout: Span, Text;
    }
    control ControlFile {
        voters: u32, Number;
        on_stop: Parting, Text;
    }
    worker WorkerFile {
        runtimes: List<String>, Texts;
        on_stop: OnStop, Text;
    }
    limits LimitsFile {
        pending: u32, Number;
        pending_per_address: u32, Number;
        sessions: u32, Number;
        disk_low_mib: u32, Number;
    }
    snapshots SnapshotsFile {
        folder: PathBuf, Text;
        every: Span, Text;
        keep: u32, Number;
    }
    timers TimersFile {
        ping_every: Span, Text;
        ping_deadline: Span, Text;
        session_lost_after: Span, Text;
        connect_timeout: Span, Text;
        reconnect_min: Span, Text;
        reconnect_max: Span, Text;
        heartbeat: Span, Text;
        election_min: Span, Text;
        election_max: Span, Text;
        voter_grace: Span, Text;
    }
}

impl File {
    /// Every path of this source.
    pub(crate) fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let (auth, tls) = (&mut self.auth, &mut self.tls);
        [
            &mut self.node.data_dir,
            &mut self.api.socket,
            &mut self.snapshots.folder,
            &mut auth.secret_file,
            &mut auth.worker_secret_file,
            &mut auth.verifiers_file,
            &mut tls.cert_file,
            &mut tls.key_file,
            &mut tls.ca_file,
            &mut tls.pin_file,
        ]
        .into_iter()
        .flatten()
    }
}
