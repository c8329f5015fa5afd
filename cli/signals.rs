//! Signals that end the program: Ctrl-C, `kill`, and a file size limit that is reached.

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use signal_hook::{flag, low_level};
use std::sync::Arc;
use std::thread;

/// From here on a signal removes temporary files and then ends the process, whatever it is doing, as the signal would have.
pub fn watch() {
    // Nobody looks at the flag. A write beyond the limit then fails like any other, which is all that is wanted.
    let _ = flag::register(SIGXFSZ, Arc::default());
    // A system that has no thread for this lets signals end the process as they do any other.
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else {
        return;
    };
    let work = move || {
        if let Some(signal) = signals.forever().next() {
            sdc::files::abandon();
            let _ = low_level::emulate_default_handler(signal);
        }
    };
    let _ = thread::Builder::new().name("signals".to_owned()).spawn(work);
}
