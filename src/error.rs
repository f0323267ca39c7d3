//! How a command fails: one sentence on standard error, and an exit code that scripts can rely on.

use crate::output;
use longshore_wire::{Code, Failure, Outcome};
use std::fmt;
use std::process::ExitCode;

/// The exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All else.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The thing named does not exist.
    NotFound = 3,
    /// The state is not the one expected.
    Conflict = 4,
    /// The deadline passed.
    TimedOut = 5,
    /// No quorum, or nobody answers.
    Unreachable = 6,
    /// Not proven, or not allowed.
    Unauthenticated = 7,
}

impl From<Code> for Exit {
    fn from(code: Code) -> Self {
        match code {
            Code::Invalid => Self::Usage,
            Code::NotFound => Self::NotFound,
            Code::Conflict | Code::NotReady => Self::Conflict,
            Code::Timeout => Self::TimedOut,
            Code::NoQuorum | Code::Unavailable | Code::NotConnected | Code::NotOwner | Code::StaleEpoch => {
                Self::Unreachable
            }
            Code::Unauthenticated | Code::Forbidden => Self::Unauthenticated,
            Code::TooLarge
            | Code::Unsupported
            | Code::Busy
            | Code::Corrupt
            | Code::NoSpace
            | Code::Internal
            | Code::Other => Self::Failed,
        }
    }
}

/// A failure with its exit code.
#[derive(Debug)]
pub(crate) struct Failed {
    exit: u8,
    /// Without one, the process ends in silence: all has been said.
    message: Option<String>,
    /// Whether what was asked for has happened, as the API says.
    outcome: Option<Outcome>,
}

impl Failed {
    /// A failure with a sentence for the operator.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit: exit as u8, message: Some(message.into()), outcome: None }
    }

    /// The end with another program's exit code.
    pub(crate) fn with_code(code: u8) -> Self {
        Self { exit: code, message: None, outcome: None }
    }

    /// Whether what was asked for has happened, where the API has said so.
    pub(crate) const fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// Whether the answer was not awaited or did not come, so that nobody knows.
    pub(crate) const fn is_doubtful(&self) -> bool {
        self.outcome.is_none() && (self.exit == Exit::TimedOut as u8 || self.exit == Exit::Unreachable as u8)
    }

    /// Whether what was asked for has certainly not happened.
    pub(crate) fn is_not_done(&self) -> bool {
        self.outcome == Some(Outcome::NotDone)
    }

    /// Whether another attempt may find the cluster in a better state.
    pub(crate) const fn is_passing(&self) -> bool {
        self.exit == Exit::TimedOut as u8 || self.exit == Exit::Unreachable as u8
    }

    /// The same after an earlier attempt whose outcome nobody knows.
    pub(crate) fn doubting(&self) -> Self {
        let message = match self.outcome {
            Some(Outcome::NotDone) => format!("{self} (an earlier attempt may have been carried out)"),
            _ => self.to_string(),
        };
        Self { exit: self.exit, message: Some(message), outcome: Some(Outcome::Unknown) }
    }

    /// The same with advice at its end.
    pub(crate) fn advising(&self, advice: &str) -> Self {
        Self { exit: self.exit, message: Some(format!("{self}; {advice}")), outcome: self.outcome }
    }

    /// The same exit code without a word.
    pub(crate) const fn silent(&self) -> Self {
        Self { exit: self.exit, message: None, outcome: self.outcome }
    }

    /// The command line is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message.as_deref().unwrap_or_default())
    }
}

impl std::error::Error for Failed {}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        let doubt = match failure.outcome {
            Outcome::Unknown => " (nobody can say whether it was carried out)",
            Outcome::Done => " (it was carried out)",
            Outcome::NotDone => "",
        };
        let failed = Self::new(failure.code.into(), format!("{}{doubt}", failure.message));
        Self { outcome: Some(failure.outcome), ..failed }
    }
}

/// Tells the operator, and gives the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let failed = error.downcast_ref::<Failed>();
    if failed.is_none_or(|failed| failed.message.is_some()) {
        output::say(&format!("longshore: {error:#}"));
    }
    ExitCode::from(failed.map_or(Exit::Failed as u8, |failed| failed.exit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubt_is_said() {
        assert_eq!(Failed::from(Failure::new(Code::NotFound, "no such key")).to_string(), "no such key");
        let failed = Failed::from(Failure::unknown(Code::Timeout, "late"));
        assert!(failed.to_string().contains("whether it was carried out"));
        assert_eq!(failed.exit, 5);
    }
}
