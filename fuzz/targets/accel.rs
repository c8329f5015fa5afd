//! Programs of the accelerator, as containers and as texts: reading, proving and running them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sdc_accel_isa::{Program, text};
use sdc_accel_sim::{Options, Simulator};

fuzz_target!(|data: &[u8]| {
    let read = Program::from_container(data).ok();
    let read = read.or_else(|| text::parse(std::str::from_utf8(data).ok()?).ok());
    let Some(program) = read else { return };
    // What can be read can be written, and is the same.
    if let Ok(container) = program.to_container() {
        assert!(Program::from_container(&container).as_ref() == Ok(&program));
        assert!(text::parse(&program.to_string()).as_ref() == Ok(&program));
    }
    let config = program.config.clone();
    let inputs = program.inputs.len();
    if let Ok(simulator) = Simulator::new(program, config)
        && inputs == 0
    {
        let _ = simulator.run(&[], &Options::default());
    }
});
