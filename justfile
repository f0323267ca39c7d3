# Everything that CI checks, without changing a file.
verify:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
    cargo test --workspace --locked

# Formats, and applies what clippy can mend by itself.
fix:
    cargo fmt --all
    cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged

# A whole cluster with the greeter app.
dev:
    cargo run -- dev examples/greeter

# Advisories, licences, sources of the dependencies (needs cargo-deny).
deny:
    cargo deny check
