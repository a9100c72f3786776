//! Runs every input that was kept through the entry point that it was found for: what fuzzing has seen once no fuzzer is needed to see again.

use std::fs;
use std::path::Path;

/// A name and what it runs.
type Target = (&'static str, fn(&[u8]));

/// Every file of `corpus` and `regressions`, for each target. Fails if a target has none: its folder was renamed, or never made.
pub(super) fn replay(targets: &[Target]) {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    for (name, run) in targets {
        let mut inputs = 0;
        for kept in ["corpus", "regressions"] {
            let Ok(files) = fs::read_dir(home.join(kept).join(name)) else { continue };
            for file in files {
                run(&fs::read(file.expect("an entry").path()).expect("an input"));
                inputs += 1;
            }
        }
        assert!(inputs > 0, "fuzz/corpus/{name} holds nothing");
    }
}
