//! The bundled keyword-spotting model as an application has it: object, header, binding, and one
//! input with its expected output.

use super::models::named;
use super::{scratch, write};
use lmc::build::{Build, Silent};
use std::path::PathBuf;

/// A compiled model in a folder of its own.
pub struct Kws {
    /// Holds everything; `kws.h` and `kws.rs` too.
    pub folder: PathBuf,
    /// `kws.o`.
    pub object: PathBuf,
    /// 490 floats.
    pub input: PathBuf,
    /// 12 floats.
    pub expected: PathBuf,
}

impl Kws {
    /// Compiles for the baseline processor of a target, into a folder named after the test.
    pub fn build(target: &str, test: &str) -> Kws {
        Kws::compile(target, "generic", "kws", test)
    }

    /// Compiles for a processor, with a name of its own.
    pub fn compile(target: &str, cpu: &str, name: &str, test: &str) -> Kws {
        let folder = scratch(&format!("{test}_{target}"));
        let entry = named("kws_dscnn");
        let build = Build::new(entry.folder.join("model.onnx")).bindings(entry.bindings(0)).name(name);
        let built = build.target(target).cpu(cpu).build(&Silent).unwrap_or_else(|e| panic!("{e}"));
        let files = built.write(&folder).unwrap_or_else(|e| panic!("{e}"));
        let (inputs, outputs) = entry.data(0);
        Kws {
            object: files.object,
            input: write(&folder, "input.bin", &inputs[0].data),
            expected: write(&folder, "expected.bin", &outputs[0].data),
            folder,
        }
    }

    /// Defines for `tests/apps/data.S`.
    pub fn data_defines(&self) -> [String; 2] {
        let define = |name: &str, path: &PathBuf| format!("-D{name}=\"{}\"", path.display());
        [define("INPUT", &self.input), define("EXPECTED", &self.expected)]
    }
}
