//! Many small objects in one aarch64 program under emulation: one link and one start for all of
//! them, where a program each would take minutes.

use super::{aarch64_gcc, c_compiler, repository, run, scratch, write};
use std::path::Path;
use std::process::Command;

/// An object that exports `m_model`, what it is given, and the bytes of each output.
pub struct Model<'a> {
    pub object: &'a [u8],
    pub inputs: Vec<&'a [u8]>,
    pub outputs: Vec<usize>,
}

/// Runs all models, each once; gives their outputs, or why there are none. A model that takes the
/// program down fails alone: the program starts again behind it.
pub fn run_on_aarch64(name: &str, models: &[Model]) -> Vec<Result<Vec<Vec<u8>>, String>> {
    let folder = scratch(name);
    let program = link(&folder, models);
    let inputs: Vec<u8> = models.iter().flat_map(|m| m.inputs.concat()).collect();
    let inputs = write(&folder, "inputs.bin", inputs);
    let mut results = Vec::new();
    while results.len() < models.len() {
        let outputs = folder.join("outputs.bin");
        let _ = std::fs::remove_file(&outputs);
        let mut command = Command::new(if cfg!(target_arch = "aarch64") { "env" } else { "qemu-aarch64" });
        command.arg(&program).arg(&inputs).arg(&outputs).arg(results.len().to_string());
        let ended = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let bytes = std::fs::read(&outputs).unwrap_or_default();
        let mut rest = bytes.as_slice();
        while let Some(result) = models.get(results.len()).and_then(|m| record(m, &mut rest)) {
            results.push(result);
        }
        if results.len() < models.len() {
            results.push(Err(format!("the program ended with {}", ended.status)));
        }
    }
    std::fs::remove_dir_all(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    results
}

/// The next record of the outputs: the status, then the outputs.
fn record(model: &Model, rest: &mut &[u8]) -> Option<Result<Vec<Vec<u8>>, String>> {
    let size = 4 + model.outputs.iter().sum::<usize>();
    if rest.len() < size {
        return None;
    }
    let (mut bytes, after) = rest.split_at(size);
    *rest = after;
    let mut take = |count: usize| {
        let (head, tail) = bytes.split_at(count);
        bytes = tail;
        head.to_vec()
    };
    let status = i32::from_le_bytes(take(4).try_into().expect("four bytes"));
    let outputs = model.outputs.iter().map(|&n| take(n)).collect();
    Some(if status == 0 { Ok(outputs) } else { Err(format!("the model returned {status}")) })
}

/// Gives each object's model a name of its own and links them with `tests/apps/batch.c`.
fn link(folder: &Path, models: &[Model]) -> std::path::PathBuf {
    let (mut table, mut list) = (String::from("#include \"lmc.h\"\n"), String::new());
    let objcopy = aarch64_gcc().replace("gcc", "objcopy");
    let mut objects = Vec::new();
    for (i, model) in models.iter().enumerate() {
        let object = write(folder, &format!("m{i}.o"), model.object);
        run(Command::new(&objcopy).arg(format!("--redefine-sym=m_model=m{i}_model")).arg(&object));
        table += &format!("extern const lmc_model m{i}_model;\n");
        list += &format!("&m{i}_model, ");
        objects.push(object);
    }
    table += &format!("const lmc_model *const batch[] = {{{list}}};\n");
    table += &format!("const unsigned batch_count = {};\n", models.len());
    let table = write(folder, "table.c", table);
    let program = folder.join("batch");
    let mut compiler = c_compiler(aarch64_gcc());
    compiler.args(["-static", "-o"]).arg(&program).arg(table).arg(repository().join("tests/apps/batch.c"));
    run(compiler.args(objects));
    program
}
