//! Writes the first inputs of every target into `fuzz/corpus`: `cargo run --bin seeds` in the folder `fuzz`, after a message was
//! changed or added. What the fuzzer found beside them stays.

mod inputs;

use std::path::Path;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (target, seeds) in inputs::seeds() {
        let folder = corpus.join(target);
        std::fs::create_dir_all(&folder)?;
        for (number, bytes) in seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:02}")), bytes)?;
        }
    }
    Ok(())
}
