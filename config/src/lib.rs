//! The configuration file: defaults, environment, validation, redaction.
