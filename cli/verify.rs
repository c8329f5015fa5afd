//! `sdc verify`: an artifact's files against each other, without running anything.

use crate::exit::Failure;
use sdc::{AccelProgram, Error, verify};
use sdc_artifact::manifest::FILE_NAME;
use std::io::Write;
use std::path::PathBuf;

#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  sdc verify out
  sdc verify out/manifest.json

Every file is read once, and must be what the manifest lists; the manifest must say what the shared library says of itself. Exit code 3 if
something differs. A program for the accelerator must be the manifest's, and sound. Whoever can replace the library and the manifest together can put another model there: to know that it is the one you
mean, compare the digest printed.")]
pub struct Args {
    /// Directory that `sdc compile` wrote, or the manifest in it
    #[arg(value_name = "DIR|MANIFEST")]
    path: PathBuf,
}

pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let is_manifest = args.path.file_name().is_some_and(|name| name == FILE_NAME) && !args.path.is_dir();
    let dir = match args.path.parent() {
        Some(parent) if is_manifest => parent,
        _ => args.path.as_path(),
    };
    if AccelProgram::is_in(dir) {
        let (name, digest) = AccelProgram::verify(dir)?;
        writeln!(out, "{digest}  {name}")?;
        return Ok(writeln!(
            out,
            "a program as the manifest says, which ends, without races"
        )?);
    }
    let verified = verify(dir).map_err(Error::from)?;
    let manifest = &verified.manifest;
    for file in manifest.files.values() {
        writeln!(out, "{}  {}", file.sha256, file.name)?;
    }
    let bound = if verified.bound {
        "all as they were written together"
    } else {
        "all as the manifest says; there is no shared library that would say the same"
    };
    let (name, count) = (&manifest.interface.name, manifest.files.len());
    Ok(writeln!(out, "`{name}`: {count} files, {bound}")?)
}
