//! What a build leaves behind: the object, the header, the binding and the manifest; in a build script
//! also a library, and what Cargo is told.

use super::{Build, Built, Silent, archive};
use crate::error::{Error, Kind, Result};
use crate::package::{self, Manifest};
use std::path::{Path, PathBuf};

/// The files that [`Build::compile`] and [`Built::write`] made.
#[derive(Clone, Debug)]
pub struct Files {
    /// `NAME.o`.
    pub object: PathBuf,
    /// `NAME.h`.
    pub header: PathBuf,
    /// `NAME.rs`.
    pub binding: PathBuf,
    /// `NAME.json`.
    pub manifest: PathBuf,
}

impl Build {
    /// Compiles and writes the files. In a build script it also writes a static library and tells
    /// Cargo to link it and when to build again.
    pub fn compile(&self) -> Result<Files> {
        let built = self.build(&Silent)?;
        let cargo = std::env::var_os("OUT_DIR").filter(|_| std::env::var_os("CARGO").is_some());
        let folder = self.out_dir.clone().or_else(|| cargo.clone().map(PathBuf::from));
        let folder = folder.unwrap_or_else(|| PathBuf::from("."));
        let files = built.write(&folder)?;
        if cargo.is_some() {
            let name = &built.program.name;
            let library = match built.target.triple.environment {
                target_lexicon::Environment::Msvc => format!("{name}.lib"),
                _ => format!("lib{name}.a"),
            };
            put(&folder.join(library), &archive(&built))?;
            let watched = built.sources.iter().map(PathBuf::as_path).chain([self.model.as_path()]);
            watched.for_each(|file| println!("cargo:rerun-if-changed={}", file.display()));
            println!("cargo:rustc-link-search=native={}", folder.display());
            println!("cargo:rustc-link-lib=static={name}");
            built.notes.iter().for_each(|n| println!("cargo:warning={name}: {n}"));
        }
        Ok(files)
    }
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes)
        .map_err(|e| Error::new(Kind::Io, format!("cannot be written: {e}")).at(path.display().to_string()))
}

impl Built {
    fn compiled(&self) -> package::Compiled<'_> {
        package::Compiled {
            program: &self.program,
            target: &self.target,
            code_bytes: self.object.code_bytes,
            constant_bytes: self.object.constant_bytes,
            stack_bytes: self.stack_bytes,
            strings: &self.strings,
        }
    }

    /// Bytes of code and constants.
    pub fn flash_bytes(&self) -> usize {
        self.object.code_bytes + self.object.constant_bytes
    }

    /// What the header says, as data.
    pub fn manifest(&self) -> Manifest {
        package::manifest(&self.compiled())
    }

    /// Writes `NAME.o`, `NAME.h`, `NAME.rs` and `NAME.json` into a folder, which is made if need be.
    pub fn write(&self, folder: &Path) -> Result<Files> {
        std::fs::create_dir_all(folder).map_err(|e| {
            Error::new(Kind::Io, format!("the folder cannot be made: {e}")).at(folder.display().to_string())
        })?;
        let path = |extension: &str| folder.join(format!("{}.{extension}", self.program.name));
        let files =
            Files { object: path("o"), header: path("h"), binding: path("rs"), manifest: path("json") };
        let manifest = serde_json::to_string_pretty(&self.manifest())
            .map_err(|e| Error::bug(format!("the manifest is no JSON: {e}")))?;
        put(&files.object, &self.object.bytes)?;
        put(&files.header, package::header(&self.compiled()).as_bytes())?;
        put(&files.binding, package::binding(&self.compiled()).as_bytes())?;
        put(&files.manifest, format!("{manifest}\n").as_bytes())?;
        Ok(files)
    }
}
