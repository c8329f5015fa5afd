//! Compiles `src/object.rs` once per instruction set and writes the table of the results.
//!
//! The objects must be complete in themselves (an artifact has nothing to link them with), so an undefined symbol or a
//! writable section fails the build. Their bytes depend on the sources and the compiler only.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::{env, error, fs};

use object::{Object, ObjectSection, ObjectSymbol, SectionKind};

/// Instance name and the `-C target-cpu` it is built for, best first.
const INSTANCES: [(&str, &str); 3] = [("v4", "x86-64-v4"), ("v3", "x86-64-v3"), ("v1", "x86-64")];

type Result<T> = std::result::Result<T, Box<dyn error::Error>>;

fn main() -> Result<()> {
    let mut out = std::io::stdout();
    let mut tell = |line: &str| std::io::Write::write_all(&mut out, format!("cargo::{line}\n").as_bytes());
    tell("rerun-if-changed=build.rs")?;
    tell("rerun-if-changed=src/object.rs")?;
    tell("rerun-if-changed=src/native")?;

    // The objects are for the machine the compiler runs on; cross-compilers and other systems get none.
    let here = env::var("TARGET")? == env::var("HOST")?
        && env::var("CARGO_CFG_TARGET_ARCH")? == "x86_64"
        && env::var("CARGO_CFG_TARGET_OS")? == "linux";
    let mut table = String::from("const OBJECTS: &[(&str, &[u8])] = &[\n");
    for (name, cpu) in INSTANCES.iter().filter(|_| here) {
        let object = Path::new(&env::var("OUT_DIR")?).join(format!("{name}.o"));
        compile(name, cpu, &object)?;
        check(&fs::read(&object)?).map_err(|e| format!("kernel object {name}: {e}"))?;
        writeln!(table, "    ({name:?}, include_bytes!({object:?})),")?;
    }
    table.push_str("];\n");
    fs::write(Path::new(&env::var("OUT_DIR")?).join("objects.rs"), table)?;
    Ok(())
}

fn compile(name: &str, cpu: &str, object: &Path) -> Result<()> {
    let manifest_dir = env::var("CARGO_MANIFEST_DIR")?;
    let status = Command::new(env::var("RUSTC")?)
        .args([
            "--edition=2024",
            "--crate-type=lib",
            "--crate-name=sdc_kernels_object",
            "--emit=obj",
        ])
        .args(["--cfg", &format!("instance=\"{name}\"")])
        .args(["--check-cfg", r#"cfg(instance, values("v4", "v3", "v1"))"#])
        .args(["-C", &format!("target-cpu={cpu}")])
        .args(["-C", "opt-level=3", "-C", "codegen-units=1", "-C", "debuginfo=0"])
        .args(["-C", "panic=abort", "-C", "force-unwind-tables=no"])
        .args(["-C", "overflow-checks=off", "-C", "debug-assertions=off"])
        // Tables of addresses would be relocated data; the merged artifact has text and constants only.
        .args(["-C", "relocation-model=pic", "-C", "jump-tables=no"])
        .args(["--remap-path-prefix", &format!("{manifest_dir}=sdc-kernels")])
        .arg("-o")
        .arg(object)
        .arg(Path::new(&manifest_dir).join("src/object.rs"))
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("rustc failed for kernel object {name}").into())
    }
}

fn check(bytes: &[u8]) -> Result<()> {
    let file = object::File::parse(bytes)?;
    if let Some(symbol) = file.symbols().find(|s| s.is_undefined() && s.index().0 != 0) {
        return Err(format!("undefined symbol `{}`", symbol.name()?).into());
    }
    let writable = |kind| {
        matches!(
            kind,
            SectionKind::Data | SectionKind::UninitializedData | SectionKind::ReadOnlyDataWithRel
        )
    };
    if let Some(section) = file.sections().find(|s| writable(s.kind()) && s.size() > 0) {
        return Err(format!("writable section `{}`", section.name()?).into());
    }
    Ok(())
}
