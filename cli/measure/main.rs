//! `sdc-measure DIR THREADS SECONDS [probe] [copy]`: what `sdc bench` runs, to measure an artifact in a process without a compiler in
//! its memory. Prints JSON; `sdc bench` is what people use.

use sdc_artifact::load::{Fault, LoadOptions};
use sdc_artifact::measure::{Wish, measure};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let dir = args.next().map(PathBuf::from);
    let rest: Vec<String> = args.filter_map(|a| a.into_string().ok()).collect();
    let wish = match rest.as_slice() {
        [threads, seconds, words @ ..] => {
            let numbers = threads.parse().ok().zip(seconds.parse().ok());
            let said = |word: &str| words.iter().any(|w| w == word);
            numbers.map(|(threads, seconds)| Wish {
                threads,
                seconds,
                probe: said("probe"),
                load: LoadOptions { copy: said("copy") },
            })
        }
        _ => None,
    };
    let (Some(dir), Some(wish)) = (dir, wish) else {
        return tell(
            "usage: sdc-measure DIR THREADS SECONDS [probe] [copy]; see `sdc bench`",
            Fault::Usage,
        );
    };
    match measure(&dir, &wish) {
        Ok(measured) => match serde_json::to_string(&measured) {
            Ok(text) if writeln!(io::stdout(), "{text}").is_ok() => ExitCode::SUCCESS,
            _ => tell("cannot print the result", Fault::Usage),
        },
        Err(error) => tell(&error.to_string(), error.fault()),
    }
}

/// The exit codes are those of `sdc`.
fn tell(message: &str, fault: Fault) -> ExitCode {
    // If standard error is gone there is nobody to tell; the exit code remains.
    let _ = writeln!(io::stderr(), "{message}");
    ExitCode::from(match fault {
        Fault::Usage => 2,
        Fault::Malformed => 3,
        Fault::Unsupported => 4,
        Fault::Limit => 5,
    })
}
